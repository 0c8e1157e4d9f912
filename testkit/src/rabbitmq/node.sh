# Runs one RabbitMQ node ($1: its server) and its own epmd until stdin ends or says a line; given a process ($2), until that
# ends. A test process that dies in any way closes the pipe, so nothing is left behind even where no destructor runs: neither a
# process nor, unless told "keep", the folder.
setsid epmd -port "$ERL_EPMD_PORT" -address 127.0.0.1 &
epmd=$!
setsid "$1" </dev/null &
node=$!
if [ -n "$2" ]; then
    while kill -s 0 "$2" 2>/dev/null; do sleep 0.5; done
else
    read -r last
fi
for job in "$node" "$epmd"; do
    # The group; or the process alone, when the end came before it had a group of its own.
    kill -s KILL -- "-$job" || kill -s KILL -- "$job"
done
wait
[ "$last" = keep ] || rm -rf -- "$HOME"

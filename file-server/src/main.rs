//! `ddm-file-server`: the file server and what an operator does on its machine.

fn main() -> std::process::ExitCode {
    ddm_file_server::cli::main()
}

use crate::{
    context::Context,
    output::{print, print_json},
    text,
};

pub(super) async fn run(context: &Context) -> anyhow::Result<()> {
    let servers = context.info_server()?.servers().await?.servers;
    if context.common.json {
        servers.iter().for_each(print_json);
        return Ok(());
    }
    if servers.is_empty() {
        print("No live file servers.");
        return Ok(());
    }
    print(&format!("{:<18}  {:<10}  {:<28}  {:>5}  {:>10}", "SERVER", "ZONE", "ADDRESS", "LOAD", "FREE"));
    for server in servers {
        let (url, free) = (server.url.as_str().trim_end_matches('/'), text::size(server.free_bytes));
        print(&format!("{:<18}  {:<10}  {url:<28}  {:>5}  {free:>10}", server.id, server.zone, server.load));
    }
    Ok(())
}

//! `ddm-client`: downloads, publishes and manages files.

fn main() -> std::process::ExitCode {
    ddm_client::main()
}

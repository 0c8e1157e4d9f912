//! `ddm-info-server`: the info-server and what an operator does on its machine.

fn main() -> std::process::ExitCode {
    ddm_info_server::cli::main()
}

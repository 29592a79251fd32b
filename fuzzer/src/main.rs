//! The `hyperfuzz` command.

fn main() -> std::process::ExitCode {
    hyperfuzz::cli::main()
}

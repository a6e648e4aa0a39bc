//! The `buildr` command: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    buildr::cli::main(std::env::args_os())
}

//! Commands of the user's: text on their standard input, their exit code as the answer.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs a command by the shell, in a directory, and gives it `input`; `Ok` when it exits with 0.
///
/// Its output goes where ours goes. What it does not read of its input is its own affair: the exit
/// code alone says whether it is done.
pub(crate) fn run(
    command: &str,
    directory: &Path,
    variables: &[(&str, String)],
    input: &[u8],
) -> Result<(), String> {
    let mut child = shell(command)
        .current_dir(directory)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot start the shell: {e}"))?;
    if let Some(mut stdin) = child.stdin.take()
        && let Err(error) = stdin.write_all(input)
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        // The command waits for the rest, which is not to come.
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("cannot write to the command: {error}"));
    }
    let status = child
        .wait()
        .map_err(|e| format!("cannot wait for the command: {e}"))?;
    match status.code() {
        Some(0) => Ok(()),
        Some(code) => Err(format!("the command exited with {code}")),
        None => Err("the command was killed".to_owned()),
    }
}

#[cfg(unix)]
fn shell(command: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command);
    shell
}

#[cfg(not(unix))]
fn shell(command: &str) -> Command {
    let mut shell = Command::new("cmd");
    shell.arg("/C").arg(command);
    shell
}

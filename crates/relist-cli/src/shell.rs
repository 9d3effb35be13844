//! Commands of the user's: text on their standard input, their exit code as the answer.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::style::duration;

/// The longest that the end of a command with a time limit goes unseen.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Runs a command by the shell, in a directory, and gives it `input`; `Ok` when it exits with 0.
///
/// Its output goes where ours goes. What it does not read of its input is its own affair: the exit
/// code alone says whether it is done. One that takes longer than `limit` is killed, with all that
/// it started, and has failed.
pub(crate) fn run(
    command: &str,
    directory: &Path,
    variables: &[(&str, String)],
    input: &[u8],
    limit: Option<Duration>,
) -> Result<(), String> {
    let mut shell = shell(command);
    shell
        .current_dir(directory)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped());
    if limit.is_some() {
        lead_a_group(&mut shell);
    }
    let mut child = shell
        .spawn()
        .map_err(|e| format!("cannot start the shell: {e}"))?;
    let stdin = child.stdin.take();
    // A command that does not read must not keep us from looking at the clock.
    let status = std::thread::scope(|scope| {
        let writer = scope.spawn(move || stdin.map_or(Ok(()), |mut s| s.write_all(input)));
        let status = match limit {
            None => Ok(None),
            Some(limit) => wait(&mut child, limit),
        };
        match writer.join() {
            Ok(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => {
                // The command waits for the rest, which is not to come.
                let _ = child.kill();
                let _ = child.wait();
                Err(format!("cannot write to the command: {error}"))
            }
            _ => status,
        }
    })?;
    let status = match status {
        Some(status) => status,
        None => child
            .wait()
            .map_err(|e| format!("cannot wait for the command: {e}"))?,
    };
    match status.code() {
        Some(0) => Ok(()),
        Some(code) => Err(format!("the command exited with {code}")),
        None => Err("the command was killed".to_owned()),
    }
}

/// Waits for a command until its time is over; then it is killed.
fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>, String> {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(Some(status)),
            Ok(None) => {}
            Err(error) => return Err(format!("cannot wait for the command: {error}")),
        }
        let left = limit.saturating_sub(begun.elapsed());
        if left.is_zero() {
            kill_group(child);
            let _ = child.wait();
            let micros = i64::try_from(limit.as_micros()).unwrap_or(i64::MAX);
            let limit = duration(micros);
            return Err(format!(
                "the command took longer than {limit} and was killed"
            ));
        }
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(LOOK_AGAIN);
    }
}

/// Makes the command the first of a group of processes, so that what it starts ends with it.
#[cfg(unix)]
fn lead_a_group(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;
    command.process_group(0);
}

#[cfg(not(unix))]
fn lead_a_group(_: &mut Command) {}

/// Kills a command and all that it started.
fn kill_group(child: &mut Child) {
    #[cfg(unix)]
    {
        let group = format!("-{}", child.id());
        let mut kill = Command::new("kill");
        kill.args(["-KILL", "--", &group])
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        // Without that program at least the shell itself ends.
        let _ = kill.status();
    }
    let _ = child.kill();
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

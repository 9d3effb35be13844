//! Python environments below the target directory, each made once from its list of packages.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use crate::data;

/// Only one test of a process at a time makes an environment.
static INSTALLING: Mutex<()> = Mutex::new(());

/// The Python of an environment `name` below `directory` that has what a list of packages, by its
/// path in the repository, requires.
///
/// # Errors
/// Why there is none: the last line that was said.
pub fn environment(directory: &Path, name: &str, list: &str) -> Result<PathBuf, String> {
    let _alone = INSTALLING
        .lock()
        .map_err(|_| "another test failed to install packages")?;
    let requirements = data::root().join(list);
    let wanted = std::fs::read_to_string(&requirements).map_err(|e| e.to_string())?;
    let place = directory.join(name);
    let python = place.join("bin/python");
    let installed = place.join("installed.txt");
    if std::fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return Ok(python);
    }
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&place))?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet"]);
    pip.arg("--disable-pip-version-check");
    if wanted.contains("--hash") {
        pip.arg("--require-hashes");
    }
    run(pip.arg("-r").arg(&requirements))?;
    std::fs::write(&installed, wanted).map_err(|e| e.to_string())?;
    Ok(python)
}

/// Runs a command; an error is the last line it said.
fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("{name}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let last = said
        .lines()
        .rfind(|l| !l.trim().is_empty())
        .unwrap_or("nothing said");
    Err(format!("{name}: {last}"))
}

//! Python libraries of the tests' clients that the distribution does not have: installed from PyPI into an environment
//! below target/python, so that nothing of the machine changes.
//!
//! Result: `target/python/bin/python`, which has them.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::{Outcome, packages, run};

/// Makes the environment with a library, `name==version`, unless it is there. Needs no root.
pub(crate) fn provide(root: &Path, library: &str) -> Outcome {
    let (name, version) =
        library.split_once("==").ok_or_else(|| format!("{library}: not `name==version`"))?;
    let place = packages::target(root).join("python");
    let python = place.join("bin/python");
    let asks = format!("import importlib.metadata as m; assert m.version({name:?}) == {version:?}");
    let has = || run::succeeds(Command::new(&python).args(["-c", &asks]));
    if has() {
        return Ok(());
    }
    let log = packages::fresh_log(root, "python.log")?;
    eprintln!("installing {library} into target/python (log: {})", log.display());
    if place.exists() {
        fs::remove_dir_all(&place).map_err(|e| format!("{}: {e}", place.display()))?;
    }
    let with_log = |problem: String| format!("{problem}\n{}", run::tail(&log));
    // The system's: another one on PATH can be of any age.
    run::logged(Command::new("/usr/bin/python3").args(["-m", "venv"]).arg(&place), &log).map_err(with_log)?;
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "--disable-pip-version-check", "install", "--quiet", library]);
    run::logged(&mut install, &log).map_err(with_log)?;
    if has() { Ok(()) } else { Err(format!("{library} was installed, but not found in {}", place.display())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_without_a_version_is_refused() {
        assert!(provide(Path::new("/nowhere"), "etcd3gw").unwrap_err().contains("name==version"));
    }
}

//! System packages the tests need: which are there, and installing or naming those that are not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Outcome, guest, python, run};

/// Where the list lies in the checkout.
pub(crate) const LIST: &str = "xtask/packages.txt";

/// One line of the list.
#[derive(Debug, PartialEq, Eq)]
struct Package {
    name: String,
    probe: Probe,
    purpose: String,
}

/// How the presence of a package is seen. By what it gives and not by its name: someone may have built it himself.
#[derive(Debug, PartialEq, Eq)]
enum Probe {
    Program(String),
    StaticProgram(String),
    /// Below /usr.
    File(String),
    PythonModule(String),
    Guest,
    PythonLibrary,
}

/// Makes all of it available: installs where this process may, else says what to do.
pub(crate) fn provide(root: &Path) -> Outcome {
    let list = read(root)?;
    let missing: Vec<&Package> = list.iter().filter(|p| p.probe.is_system() && !p.probe.found()).collect();
    if !missing.is_empty() {
        let names: Vec<&str> = missing.iter().map(|p| p.name.as_str()).collect();
        if !(is_root() && on_path("apt-get").is_some()) {
            return Err(instructions(&missing));
        }
        install(root, &names)?;
        let still: Vec<&Package> = missing.into_iter().filter(|p| !p.probe.found()).collect();
        if !still.is_empty() {
            return Err(format!("installed, but not found: {}", instructions(&still)));
        }
    }
    for kernel in list.iter().filter(|p| p.probe == Probe::Guest) {
        guest::provide(root, &kernel.name)?;
    }
    for library in list.iter().filter(|p| p.probe == Probe::PythonLibrary) {
        python::provide(root, &library.name)?;
    }
    Ok(())
}

fn instructions(missing: &[&Package]) -> String {
    let names: Vec<&str> = missing.iter().map(|p| p.name.as_str()).collect();
    let mut text = format!(
        "the tests need {} more package{}. As root:\n\n    apt-get install --no-install-recommends {}\n",
        names.len(),
        if names.len() == 1 { "" } else { "s" },
        names.join(" ")
    );
    for package in missing {
        text += &format!("\n    {:<18} {}", package.name, package.purpose);
    }
    text
}

fn read(root: &Path) -> Result<Vec<Package>, String> {
    let path = root.join(LIST);
    let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    parse(&text)
}

fn parse(text: &str) -> Result<Vec<Package>, String> {
    let mut list = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let (words, purpose) = line.split_once('#').unwrap_or((line, ""));
        let words: Vec<&str> = words.split_whitespace().collect();
        match (&words[..], purpose.trim()) {
            ([], _) => {}
            ([name, probe], purpose) if !purpose.is_empty() => list.push(Package {
                name: (*name).into(),
                probe: Probe::parse(probe)
                    .ok_or_else(|| format!("{LIST}:{}: unknown way of looking: {probe}", number + 1))?,
                purpose: purpose.into(),
            }),
            _ => return Err(format!("{LIST}:{}: not `package probe # purpose`: {line}", number + 1)),
        }
    }
    Ok(list)
}

impl Probe {
    fn parse(word: &str) -> Option<Probe> {
        Some(match word.split_once(':') {
            None => Probe::Program(word.into()),
            Some(("static", name)) => Probe::StaticProgram(name.into()),
            Some(("file", path)) => Probe::File(path.into()),
            Some(("python3", module)) => Probe::PythonModule(module.into()),
            Some(("guest", "")) => Probe::Guest,
            Some(("pypi", "")) => Probe::PythonLibrary,
            Some(_) => return None,
        })
    }

    /// Whether it is a package of the distribution that is to be installed.
    fn is_system(&self) -> bool {
        !matches!(self, Probe::Guest | Probe::PythonLibrary)
    }

    /// Never asked of what is not [system](Self::is_system): `guest` and `python` look after it.
    fn found(&self) -> bool {
        match self {
            Probe::Program(name) => on_path(name).is_some(),
            // ldd fails for a program that loads nothing.
            Probe::StaticProgram(name) => {
                on_path(name).is_some_and(|path| !run::succeeds(Command::new("ldd").arg(path)))
            }
            Probe::File(path) => Path::new("/usr").join(path).is_file(),
            Probe::PythonModule(name) => {
                run::succeeds(Command::new("/usr/bin/python3").args(["-c", &format!("import {name}")]))
            }
            Probe::Guest | Probe::PythonLibrary => false,
        }
    }
}

/// A program on PATH or where system programs lie, which an ordinary user's PATH leaves out.
fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

fn is_root() -> bool {
    run::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

/// Three tries: with the lists that are there, with fresh ones, and with the release's own versions (a newer
/// qemu-utils from a backports archive that is no longer configured makes qemu-system-x86 uninstallable).
fn install(root: &Path, names: &[&str]) -> Outcome {
    let log = fresh_log(root, "packages.log")?;
    eprintln!("installing {} (log: {})", names.join(" "), log.display());
    let try_install = |arguments: &[String]| {
        let mut command = apt_get();
        command.args(["install", "--yes", "--no-install-recommends"]).args(arguments);
        run::logged(&mut command, &log)
    };
    let plain: Vec<String> = names.iter().map(|name| name.to_string()).collect();
    if try_install(&plain).is_ok() {
        return Ok(());
    }
    eprintln!("fetching fresh package lists");
    let updated = run::logged(apt_get().arg("update"), &log);
    if updated.is_ok() && try_install(&plain).is_ok() {
        return Ok(());
    }
    let Some(codename) = codename() else {
        return Err(format!("installing packages failed\n{}", run::tail(&log)));
    };
    eprintln!("taking {codename}'s own versions, which may downgrade qemu packages");
    try_install(&downgraded(names, &codename))
        .map_err(|problem| format!("installing packages failed: {problem}\n{}", run::tail(&log)))
}

/// Arguments that ask for the release's versions of what is missing, and of the parts of QEMU, which must agree.
fn downgraded(names: &[&str], codename: &str) -> Vec<String> {
    let mut wanted: Vec<&str> = names.to_vec();
    if names.iter().any(|name| name.starts_with("qemu-")) {
        wanted.extend(["qemu-system-x86", "qemu-system-common", "qemu-system-data", "qemu-utils"]);
    }
    wanted.sort_unstable();
    wanted.dedup();
    let mut arguments = vec!["--allow-downgrades".to_string()];
    arguments.extend(wanted.iter().map(|name| format!("{name}/{codename}")));
    arguments
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args(["--quiet", "-o", "DPkg::Lock::Timeout=120"]);
    command
}

fn codename() -> Option<String> {
    let text = fs::read_to_string("/etc/os-release").ok()?;
    let name = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    Some(name.trim_matches('"').to_string())
}

/// Where cargo puts what it builds.
pub(crate) fn target(root: &Path) -> PathBuf {
    root.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or("target".into()))
}

/// An empty log under target/xtask.
pub(crate) fn fresh_log(root: &Path, name: &str) -> Result<PathBuf, String> {
    let folder = target(root).join("xtask");
    fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let log = folder.join(name);
    fs::write(&log, "").map_err(|e| format!("{}: {e}", log.display()))?;
    Ok(log)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_the_checkout_is_well_formed() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let list = read(root).unwrap();
        assert!(list.iter().any(|p| p.name == "fio" && p.probe == Probe::Program("fio".into())));
        assert_eq!(list.iter().filter(|p| p.probe == Probe::Guest).count(), 1);
    }

    #[test]
    fn a_line_without_purpose_or_with_an_unknown_probe_is_refused() {
        assert!(parse("fio fio").unwrap_err().contains(":1:"));
        assert!(parse("# head\nfio # what for").unwrap_err().contains(":2:"));
        assert!(parse("fio smell:fio # load").unwrap_err().contains("unknown way"));
    }

    #[test]
    fn probes_tell_what_is_there_from_what_is_not() {
        assert!(Probe::Program("sh".into()).found());
        assert!(!Probe::Program("no-such-program-here".into()).found());
        assert!(!Probe::StaticProgram("sh".into()).found(), "sh loads libc");
        assert!(Probe::File("bin/env".into()).found());
        assert!(!Probe::File("include/no/such.proto".into()).found());
        assert!(!Probe::PythonModule("no_such_module_here".into()).found());
    }

    #[test]
    fn instructions_hold_a_line_that_can_be_pasted() {
        let list = parse("fio fio # load\nstrace strace # calls").unwrap();
        let text = instructions(&list.iter().collect::<Vec<_>>());
        assert!(text.contains("\n    apt-get install --no-install-recommends fio strace\n"), "{text}");
        assert!(text.contains("load") && text.contains("calls"));
    }

    #[test]
    fn the_last_try_keeps_the_parts_of_qemu_together() {
        let arguments = downgraded(&["fio", "qemu-system-x86"], "bookworm");
        assert_eq!(arguments[0], "--allow-downgrades");
        assert!(arguments.contains(&"fio/bookworm".to_string()));
        assert!(arguments.contains(&"qemu-utils/bookworm".to_string()));
        assert_eq!(downgraded(&["fio"], "bookworm"), ["--allow-downgrades", "fio/bookworm"]);
    }
}

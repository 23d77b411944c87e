//! The guest's kernel: fetched as a package and unpacked into target/guest, because installing a kernel on the machine
//! of someone who wants to run tests would change what it boots.
//!
//! Result: the package's files below `target/guest`: `boot/vmlinuz-<version>` and `lib/modules/<version>/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Outcome, packages, run};

/// Fetches `package` (a metapackage that depends on one kernel) unless it is there. Needs no root.
pub(crate) fn provide(root: &Path, package: &str) -> Outcome {
    let guest = packages::target(root).join("guest");
    if complete(&guest) {
        return Ok(());
    }
    if !cfg!(target_arch = "x86_64") {
        return Err(format!("the guest of the tests is x86-64; put a kernel into {}", guest.display()));
    }
    let log = packages::fresh_log(root, "guest.log")?;
    eprintln!("fetching the guest kernel into target/guest (log: {})", log.display());
    fetch(&guest, package, &log).map_err(|problem| format!("{problem}\n{}", run::tail(&log)))
}

fn fetch(guest: &Path, package: &str, log: &Path) -> Outcome {
    let kernel = match dependency(package) {
        Ok(kernel) => kernel,
        Err(_) => {
            run::logged(Command::new("apt-get").args(["--quiet", "update"]), log)?;
            dependency(package)?
        }
    };
    // Unpacked beside its place and renamed: an interrupted run leaves nothing that looks complete.
    let partial = guest.with_extension("partial");
    let failed = |e: std::io::Error| format!("{}: {e}", partial.display());
    if partial.exists() {
        fs::remove_dir_all(&partial).map_err(failed)?;
    }
    fs::create_dir_all(&partial).map_err(failed)?;
    // apt-get drops to its own user, which may not write here; it says so and goes on as root.
    run::logged(Command::new("apt-get").current_dir(&partial).args(["--quiet", "download", &kernel]), log)?;
    let archive = only(&partial, ".deb")?;
    run::logged(Command::new("dpkg").arg("-x").arg(&archive).arg(&partial), log)?;
    fs::remove_file(&archive).map_err(failed)?;
    if !complete(&partial) {
        return Err(format!("{kernel} holds no kernel with modules"));
    }
    if guest.exists() {
        fs::remove_dir_all(guest).map_err(failed)?;
    }
    fs::rename(&partial, guest).map_err(failed)
}

/// Whether a kernel and its modules lie below `guest`.
fn complete(guest: &Path) -> bool {
    let Ok(image) = only(&guest.join("boot"), "vmlinuz-") else { return false };
    let name = image.file_name().unwrap_or_default().to_string_lossy();
    name.strip_prefix("vmlinuz-").is_some_and(|version| guest.join("lib/modules").join(version).is_dir())
}

/// The kernel package behind a metapackage.
fn dependency(package: &str) -> Result<String, String> {
    let text = run::output(Command::new("apt-cache").args(["depends", "--important", package]))?;
    first_dependency(&text).ok_or_else(|| format!("{package} depends on no kernel: {}", text.trim()))
}

fn first_dependency(text: &str) -> Option<String> {
    text.lines().find_map(|line| line.trim().strip_prefix("Depends: ")).map(|name| name.trim().to_string())
}

/// The one entry of `folder` whose name contains `part`.
fn only(folder: &Path, part: &str) -> Result<PathBuf, String> {
    let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains(part)))
        .collect();
    match &found[..] {
        [one] => Ok(one.clone()),
        _ => Err(format!(
            "{}: one entry with {part:?} in its name expected, found {found:?}",
            folder.display()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_its_own_modules_is_not_complete() {
        let guest = std::env::temp_dir().join(format!("xtask-guest-{}", std::process::id()));
        fs::create_dir_all(guest.join("boot")).unwrap();
        fs::create_dir_all(guest.join("lib/modules/6.2")).unwrap();
        let without_image = complete(&guest);
        fs::write(guest.join("boot/vmlinuz-6.1"), "").unwrap();
        let other_modules = complete(&guest);
        fs::create_dir_all(guest.join("lib/modules/6.1")).unwrap();
        let whole = complete(&guest);
        fs::remove_dir_all(&guest).unwrap();
        assert_eq!([without_image, other_modules, whole], [false, false, true]);
    }

    #[test]
    fn the_kernel_is_the_metapackages_dependency() {
        let text = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-1-cloud-amd64\n";
        assert_eq!(first_dependency(text).as_deref(), Some("linux-image-6.1.0-1-cloud-amd64"));
        assert_eq!(first_dependency("linux-image-cloud-amd64\n"), None);
    }
}

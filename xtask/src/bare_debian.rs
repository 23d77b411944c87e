//! `cargo xtask bare-debian`: does the README hold for someone whose machine has nothing? A minimal Debian is made with
//! debootstrap, the checkout is cloned into it, and `cargo xtask test` runs there.
//!
//! All mounts live in a private mount namespace that ends with the command, so removing the tree afterwards can never
//! reach through one of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Outcome, packages, run};

/// The release the trial is about.
const RELEASE: &str = "bookworm";
/// What the README asks for beside Rust itself: a linker, and the certificates cargo checks its downloads with.
const PREREQUISITES: &[&str] = &["gcc", "libc6-dev", "ca-certificates"];
/// Where the certificates lie inside that this machine trusts by `SSL_CERT_FILE`.
const CERTIFICATES: &str = "etc/ssl/machine.pem";
/// Where the clone lies inside.
const CHECKOUT: &str = "src/ovs";

/// Runs inside the mount namespace. `$1` is the tree, `$2` the toolchains, `$3` cargo's programs, `$4` the script.
const ENTER: &str = r#"set -eu
mount --rbind /dev "$1/dev"
mount -t proc proc "$1/proc"
mount -t sysfs -o ro sysfs "$1/sys"
mount -t tmpfs tmpfs "$1/tmp"
mount --rbind -o ro "$2" "$1/opt/rustup"
mount --rbind -o ro "$3" "$1/opt/cargo/bin"
exec chroot "$1" /bin/sh -euc "$4"
"#;

pub(crate) fn trial(root: &Path, keep: bool, packages_only: bool) -> Outcome {
    for tool in ["debootstrap", "unshare", "git"] {
        if !run::succeeds(Command::new(tool).arg("--version")) {
            return Err(format!("{tool} is not installed"));
        }
    }
    let log = packages::fresh_log(root, "bare-debian.log")?;
    let tree = packages::target(root).join("bare-debian");
    discard(&tree)?;
    eprintln!("making a minimal {RELEASE} in target/bare-debian (log: {})", log.display());
    let outcome = build(root, &tree, &log, packages_only)
        .map_err(|problem| format!("{problem}\n{}", run::tail(&log)))
        .and_then(|()| enter(&tree, packages_only));
    if keep {
        eprintln!("kept: {}", tree.display());
    } else {
        discard(&tree)?;
    }
    outcome
}

fn discard(tree: &Path) -> Outcome {
    match fs::remove_dir_all(tree) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(format!("{}: {e}", tree.display())),
        _ => Ok(()),
    }
}

fn build(root: &Path, tree: &Path, log: &Path, packages_only: bool) -> Outcome {
    let sources = sources()?;
    let mirror = mirror(&sources)?;
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--variant=minbase", RELEASE]).arg(tree).arg(&mirror);
    run::logged(&mut debootstrap, log)?;

    let write = |path: &str, text: String| {
        fs::write(tree.join(path), text).map_err(|e| format!("{}: {e}", tree.join(path).display()))
    };
    write("etc/apt/sources.list", sources_list(&sources))?;
    // Proxies and the like are the machine's business, not the README's.
    write(
        "etc/apt/apt.conf.d/99machine",
        run::output(Command::new("apt-config").args(["dump", "Acquire"]))?,
    )?;
    for file in ["etc/resolv.conf", "etc/hosts"] {
        if let Ok(text) = fs::read_to_string(Path::new("/").join(file)) {
            write(file, text)?;
        }
    }
    // So is whom it trusts: a proxy may answer for the package registry.
    if let Some(file) = std::env::var_os("SSL_CERT_FILE") {
        let to = tree.join(CERTIFICATES);
        let text = fs::read_to_string(&file).map_err(|e| format!("SSL_CERT_FILE: {e}"))?;
        to.parent().map_or(Ok(()), fs::create_dir_all).map_err(|e| format!("{}: {e}", to.display()))?;
        write(CERTIFICATES, text)?;
    }
    // Services must not start in a tree that is thrown away.
    write("usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n".into())?;
    run::logged(Command::new("chmod").arg("755").arg(tree.join("usr/sbin/policy-rc.d")), log)?;
    for folder in ["opt/rustup", "opt/cargo/bin", "src"] {
        let folder = tree.join(folder);
        fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    if packages_only {
        return copy_xtask(root, tree);
    }
    let mut clone = Command::new("git");
    run::logged(clone.args(["clone", "--no-local"]).arg(root).arg(tree.join(CHECKOUT)), log)
}

/// This program and its list instead of the clone: all that installing the packages takes.
fn copy_xtask(root: &Path, tree: &Path) -> Outcome {
    let program = std::env::current_exe().map_err(|e| format!("this program: {e}"))?;
    let list = tree.join(CHECKOUT).join(packages::LIST);
    let folder = list.parent().expect("the list lies in a folder");
    fs::create_dir_all(folder)
        .and_then(|()| fs::copy(root.join(packages::LIST), &list))
        .and_then(|_| fs::copy(&program, tree.join("opt/xtask")))
        .map_err(|e| format!("{}: {e}", tree.display()))
        .map(drop)
}

fn enter(tree: &Path, packages_only: bool) -> Outcome {
    let task = if packages_only { "/opt/xtask packages" } else { "cargo xtask test" };
    let script = format!(
        "apt-get --quiet update >/tmp/apt.log\n\
         apt-get --quiet install --yes --no-install-recommends {} >>/tmp/apt.log\n\
         cd /{CHECKOUT}\n{task}\n",
        PREREQUISITES.join(" ")
    );
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    let place = |variable: &str, default: &str| {
        std::env::var_os(variable).map_or_else(|| home.join(default), PathBuf::from)
    };
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", ENTER, "sh"]);
    command.arg(tree).arg(place("RUSTUP_HOME", ".rustup")).arg(place("CARGO_HOME", ".cargo").join("bin"));
    command.arg(&script).env_clear();
    for (name, value) in std::env::vars() {
        if name.to_lowercase().ends_with("_proxy") {
            command.env(name, value);
        }
    }
    command.envs([
        ("PATH", "/opt/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOME", "/tmp"),
        ("LANG", "C.UTF-8"),
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("RUSTUP_HOME", "/opt/rustup"),
        ("CARGO_HOME", "/opt/cargo"),
        ("RUSTUP_AUTO_INSTALL", "0"),
    ]);
    if tree.join(CERTIFICATES).exists() {
        let file = format!("/{CERTIFICATES}");
        command.env("CARGO_HTTP_CAINFO", &file).env("PIP_CERT", &file).env("SSL_CERT_FILE", file);
    }
    run::shown(&mut command)
}

/// What this machine's apt fetches Debian from: site, release, component.
fn sources() -> Result<Vec<[String; 3]>, String> {
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", "$(SITE) $(RELEASE) $(COMPONENT)", "Created-By: Packages"]);
    Ok(debian_sources(&run::output(&mut command)?))
}

/// Of the lines `site release component` those of the release itself, without archives of others.
fn debian_sources(text: &str) -> Vec<[String; 3]> {
    let words = text.lines().map(|line| line.split_whitespace().map(String::from).collect::<Vec<_>>());
    let mut sources: Vec<[String; 3]> = words.filter_map(|words| words.try_into().ok()).collect();
    let releases = [RELEASE, "bookworm-updates", "bookworm-security"];
    sources.retain(|[_, release, _]| releases.contains(&release.as_str()));
    sources.sort();
    sources.dedup();
    sources
}

fn mirror(sources: &[[String; 3]]) -> Result<String, String> {
    let base = sources.iter().find(|[_, release, component]| release == RELEASE && component == "main");
    base.map(|[site, ..]| site.clone()).ok_or_else(|| format!("apt on this machine knows no {RELEASE} main"))
}

fn sources_list(sources: &[[String; 3]]) -> String {
    sources.iter().map(|[site, release, component]| format!("deb {site} {release} {component}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_machines_own() {
        let text = "http://m/debian bookworm main\nhttp://m/debian bookworm-updates main\n\
                    https://other/apt sdk main\nhttp://m/debian bookworm main\n";
        let sources = debian_sources(text);
        assert_eq!(mirror(&sources).as_deref(), Ok("http://m/debian"));
        assert_eq!(
            sources_list(&sources),
            "deb http://m/debian bookworm main\ndeb http://m/debian bookworm-updates main\n"
        );
        assert!(mirror(&debian_sources("https://other/apt sdk main\n")).is_err());
    }
}

//! A virtual machine on a volume: the guest makes an ext4 and fills it; after a crash and restart of the server a
//! second boot finds a clean file system and every file whole.

mod harness;

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::place::Place;
use harness::process::{self, must};
use harness::server::{Server, Setup};

const MIB: u64 = 1 << 20;
/// Emulated, on a slow machine, with the rest of the tests beside it.
const BOOT: Duration = Duration::from_secs(240);

/// The distribution's kernel for virtual machines and its modules.
struct Kernel {
    image: PathBuf,
    modules: PathBuf,
}

impl Kernel {
    /// From `target/guest` (an unpacked package), else from this machine.
    fn find() -> Self {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../guest");
        for (boot, modules) in [
            (target.join("boot"), target.join("lib/modules")),
            (target.join("boot"), target.join("usr/lib/modules")),
            (PathBuf::from("/boot"), PathBuf::from("/lib/modules")),
        ] {
            let Ok(entries) = fs::read_dir(&boot) else { continue };
            for entry in entries.flatten() {
                let name = entry.file_name().into_string().unwrap_or_default();
                let Some(version) = name.strip_prefix("vmlinuz-") else { continue };
                if modules.join(version).join("modules.dep").exists() {
                    return Self { image: entry.path(), modules: modules.join(version) };
                }
                if modules.join(version).join("kernel").exists() {
                    return Self { image: entry.path(), modules: Self::with_index(&modules, version) };
                }
            }
        }
        panic!(
            "no kernel for the guest: unpack Debian's linux-image-cloud-amd64 to {} \
             (`cargo xtask` does), or install it",
            target.display()
        );
    }

    /// An unpacked package has no `modules.dep` yet.
    fn with_index(modules: &Path, version: &str) -> PathBuf {
        let base = modules.parent().and_then(Path::parent).expect("modules lie in lib/modules");
        must("depmod", &["-b", base.to_str().expect("readable path"), version], Duration::from_secs(60));
        modules.join(version)
    }

    /// Paths of the modules `names` and of all they need, in the order in which they are to be loaded.
    fn closure(&self, names: &[&str]) -> Vec<PathBuf> {
        let index = fs::read_to_string(self.modules.join("modules.dep")).expect("modules.dep");
        let builtin = fs::read_to_string(self.modules.join("modules.builtin")).unwrap_or_default();
        let file = |name: &str| format!("/{name}.ko");
        let mut wanted = Vec::new();
        for name in names {
            let line = index
                .lines()
                .find(|line| line.split(':').next().is_some_and(|path| path.contains(&file(name))));
            let Some((path, needs)) = line.and_then(|line| line.split_once(':')) else {
                assert!(builtin.contains(&file(name)), "the kernel has no module {name}");
                continue;
            };
            // modules.dep lists what is needed with the deepest last.
            wanted.extend(needs.split_whitespace().rev().map(str::to_owned));
            wanted.push(path.to_owned());
        }
        let mut seen = HashSet::new();
        wanted.retain(|path| seen.insert(path.clone()));
        wanted.iter().map(|path| self.modules.join(path)).collect()
    }
}

fn install(root: &Path, from: &Path, to: &str) {
    let target = root.join(to.trim_start_matches('/'));
    fs::create_dir_all(target.parent().expect("a file lies in a directory")).expect("directory");
    fs::copy(from, &target).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    fs::set_permissions(&target, fs::Permissions::from_mode(0o755)).expect("mode");
}

/// Copies a program and the libraries that `ldd` names.
fn install_program(root: &Path, program: &str) {
    install(root, Path::new(program), program);
    for word in process::output("ldd", &[program]).split_whitespace().filter(|word| word.starts_with('/')) {
        install(root, Path::new(word), word);
    }
}

/// A module as the guest's busybox can load it.
fn install_module(root: &Path, module: &Path) -> String {
    let name = module.file_name().and_then(|name| name.to_str()).expect("readable name");
    install(root, module, &format!("/modules/{name}"));
    let placed = root.join("modules").join(name);
    let placed = placed.to_str().expect("readable path");
    let limit = Duration::from_secs(60);
    match name.rsplit_once(".ko").map(|(_, packed)| packed) {
        Some(".xz") => must("xz", &["-d", placed], limit),
        Some(".zst") => must("zstd", &["-q", "-d", "--rm", placed], limit),
        Some(".gz") => must("gzip", &["-d", placed], limit),
        _ => String::new(),
    };
    name.split_once(".ko").map(|(stem, _)| format!("{stem}.ko")).expect("modules end in .ko")
}

/// The guest's whole user land, as an archive the kernel unpacks.
fn initramfs(place: &Place, kernel: &Kernel) -> String {
    let root = place.root().join("initramfs");
    install(&root, Path::new("/bin/busybox"), "/bin/busybox");
    install(&root, Path::new(&harness::client("guest_init.sh")), "/init");
    install_program(&root, "/sbin/mke2fs");
    install_program(&root, "/sbin/e2fsck");
    install(&root, Path::new("/etc/mke2fs.conf"), "/etc/mke2fs.conf");
    let names = ["virtio_pci", "virtio_blk", "crc32c_generic", "ext4"];
    let order: Vec<String> =
        kernel.closure(&names).iter().map(|module| install_module(&root, module)).collect();
    fs::write(root.join("modules/order"), order.join("\n") + "\n").expect("module list");
    let archive = place.path("initramfs.cpio");
    let script = format!("cd '{}' && find . | cpio --quiet -o -H newc >'{archive}'", root.display());
    must("sh", &["-c", &script], Duration::from_secs(60));
    archive
}

/// The guest's console, shown when the test fails, a time limit included.
struct Console(String);

impl Console {
    fn text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.0).unwrap_or_default()).into_owned()
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- guest console ---\n{}\n---", self.text());
        }
    }
}

/// Boots the guest in one of its phases, waits until it has powered itself off, and returns what stands behind
/// `marker` on its console.
fn boot(
    place: &Place,
    kernel: &Kernel,
    initramfs: &str,
    server: &Server,
    phase: &str,
    marker: &str,
) -> String {
    let console = Console(place.path(&format!("console-{phase}")));
    let drive = format!(
        "driver=nbd,server.type=unix,server.path={},export=guest,if=virtio,discard=unmap",
        server.socket()
    );
    let done = process::run(
        "qemu-system-x86_64",
        &[
            "-accel",
            "tcg",
            "-m",
            "256",
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display",
            "none",
            "-serial",
            &format!("file:{}", console.0),
            "-kernel",
            kernel.image.to_str().expect("readable path"),
            "-initrd",
            initramfs,
            "-append",
            &format!("console=ttyS0 panic=-1 quiet ovs.phase={phase}"),
            "-drive",
            &drive,
        ],
        BOOT,
    );
    assert!(done.status.success(), "qemu: {}\n{}", done.status, done.stderr);
    let said = console.text();
    let line = said.lines().find_map(|line| line.trim().strip_prefix(marker));
    line.unwrap_or_else(|| panic!("the guest did not get to {marker}\n{}", done.stderr)).trim().to_owned()
}

#[test]
fn a_guest_finds_its_files_again() {
    let place = Place::new("guest");
    let kernel = Kernel::find();
    let initramfs = initramfs(&place, &kernel);
    let setup = Setup::new(&place).volume("guest", 128 * MIB);

    let server = setup.start();
    let written = boot(&place, &kernel, &initramfs, &server, "write", "GUEST-WRITTEN");
    assert!(!written.is_empty(), "the guest names the checksum of what it wrote");
    // The guest has unmounted: all of it was flushed, so it survives this.
    server.kill();

    let server = setup.start();
    let verified = boot(&place, &kernel, &initramfs, &server, "verify", "GUEST-VERIFIED");
    assert_eq!(written, verified, "both boots saw the same list of files");
    server.shut_down();
}

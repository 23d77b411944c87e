//! Where a test keeps its data: a directory of its own, on request on a file system of its own.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::process;

/// A directory that is removed at the end of a test that went well, and shown by one that did not.
pub struct Place {
    root: PathBuf,
}

impl Place {
    /// An empty directory. Unix socket paths end at 107 bytes, so a long target path is left for `/tmp`.
    pub fn new(name: &str) -> Self {
        let unique = Self::unique(name);
        let mut root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&unique);
        if root.as_os_str().len() > 80 {
            root = Path::new("/tmp").join(&unique);
        }
        Self::at(root)
    }

    /// An empty directory in memory, if this host has such a file system: for tests in which nothing is about disks
    /// and a flush only takes time.
    pub fn in_memory(name: &str) -> Self {
        let memory = Path::new("/dev/shm");
        if !memory.is_dir() {
            return Self::new(name);
        }
        Self::at(memory.join(Self::unique(name)))
    }

    fn at(root: PathBuf) -> Self {
        let _ = std::fs::remove_dir_all(&root);
        std::fs::create_dir_all(&root).expect("the target directory can be written");
        Self { root }
    }

    /// A name that no other place has.
    fn unique(name: &str) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        format!("ovs-{name}-{}-{number}", std::process::id())
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path inside, as text.
    pub fn path(&self, name: &str) -> String {
        self.root.join(name).to_str().expect("readable path").to_owned()
    }

    /// The directory for `ovs up --data-dir`.
    pub fn data_dir(&self) -> PathBuf {
        self.root.join("d")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("left behind for a look: {}", self.root.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.root);
        }
    }
}

/// A journaled ext4 in a file, mounted over a loop device. Unmounted and detached when dropped, on failure too;
/// the image stays in its [`Place`].
pub struct LoopFs {
    device: String,
    mount: PathBuf,
}

impl LoopFs {
    /// Makes and mounts one of `size` bytes inside `place` at `place/d`, that is as its data directory.
    pub fn mount(place: &Place, size: u64) -> Self {
        let limit = Duration::from_secs(60);
        let image = place.root().join("ext4.img");
        let file = std::fs::File::create(&image).expect("image file");
        file.set_len(size).expect("image size");
        drop(file);
        let path = image.to_str().expect("readable path").to_owned();
        process::must("mkfs.ext4", &["-q", "-F", "-m", "0", &path], limit);
        let features = process::output("dumpe2fs", &["-h", &path]);
        assert!(features.contains("has_journal"), "the test is about a journaled file system:\n{features}");
        let device = process::must("losetup", &["--find", "--show", &path], limit).trim().to_owned();
        let mount = place.data_dir();
        // From here on Drop cleans up.
        let this = Self { device, mount };
        std::fs::create_dir_all(&this.mount).expect("mount point");
        let target = this.mount.to_str().expect("readable path");
        process::must("mount", &["-t", "ext4", &this.device, target], limit);
        this
    }
}

impl Drop for LoopFs {
    fn drop(&mut self) {
        let limit = Duration::from_secs(60);
        let target = self.mount.to_str().expect("readable path").to_owned();
        // A killed server's last requests keep the mount busy for a moment: lazily, then.
        if !process::run("umount", &[&target], limit).status.success() {
            process::run("umount", &["--lazy", &target], limit);
        }
        process::run("losetup", &["--detach", &self.device], limit);
    }
}

//! Which backend is chosen, on this machine and where io_uring is refused.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use uring::{AlignedBuf, Backend, Op, RingOptions, open};

const CHILD: &str = "URING_TEST_REFUSED_BY";

#[test]
fn threads_on_demand() {
    let (io, probe) = open(Backend::Threads, &RingOptions::default()).unwrap();
    assert_eq!((io.backend(), probe.backend, probe.refusal), ("threads", "threads", None));
}

#[test]
fn auto_says_what_it_chose() {
    let (io, probe) = open(Backend::Auto, &RingOptions::default()).unwrap();
    assert_eq!(io.backend(), probe.backend);
    assert_eq!(probe.refusal.is_some(), probe.backend == "threads");
    assert!(probe.to_string().starts_with(probe.backend));
}

/// Runs itself as a child whose kernel refuses `io_uring_setup`, as Docker's default profile does.
#[test]
fn refused_io_uring_means_threads() {
    if let Ok(errno) = std::env::var(CHILD) {
        return under_a_filter(errno.parse().unwrap());
    }
    for errno in [libc::EPERM, libc::ENOSYS] {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child
            .args(["--exact", "refused_io_uring_means_threads", "--nocapture"])
            .env(CHILD, errno.to_string());
        // SAFETY: between fork and exec the closure makes two system calls and touches its own stack only.
        unsafe { child.pre_exec(move || refuse_io_uring(errno)) };
        let output = child.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.contains("chosen: threads, no io_uring: "), "{text}");
    }
}

fn under_a_filter(errno: i32) {
    let (mut io, probe) = open(Backend::Auto, &RingOptions::default()).unwrap();
    println!("chosen: {probe}");
    assert_eq!(io.backend(), "threads");
    let Err(error) = open(Backend::Uring, &RingOptions::default()) else { panic!("the filter does nothing") };
    let text = error.to_string();
    let advice = if errno == libc::EPERM { "seccomp" } else { "has no io_uring" };
    assert!(text.contains(advice) && text.contains("auto or threads"), "{text}");

    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let (mut completions, limit) = (Vec::new(), Some(Duration::from_secs(60)));
    io.submit(1, Op::Read { file: file.as_raw_fd(), offset: 0, buf: AlignedBuf::zeroed(4) });
    io.wait(limit, &mut completions).unwrap();
    assert_eq!(completions[0].buf.as_deref(), Some(&b"\x7fELF"[..]));
}

/// A seccomp filter for this process and its descendants: `io_uring_setup` fails with `errno`.
fn refuse_io_uring(errno: i32) -> io::Result<()> {
    let code = |code: u32| code as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let filter = [
        // The number of the system call is the first word of what the filter sees.
        step(code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS), 0, 0, 0),
        step(code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K), 0, 1, libc::SYS_io_uring_setup as u32),
        step(code(libc::BPF_RET | libc::BPF_K), 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        step(code(libc::BPF_RET | libc::BPF_K), 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the kernel copies the program, which lives until the end of this function.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}

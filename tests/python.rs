//! The Python package `volumedriver`: installed as its users do, then its own tests against this program. They need
//! nothing of PyPI: what builds the package is the distribution's.

mod harness;

use std::path::Path;
use std::time::Duration;

use harness::certificates::Authority;
use harness::place::Place;
use harness::process;

/// How long each step may take; the tests start a dozen nodes.
const LIMIT: Duration = Duration::from_secs(540);

/// The package in this checkout.
const PACKAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python");

/// An environment with the package in it; its interpreter.
fn environment(place: &Place) -> String {
    let environment = place.path("environment");
    process::must(harness::PYTHON, &["-m", "venv", "--system-site-packages", &environment], LIMIT);
    let python = format!("{environment}/bin/python");
    // A copy, because an installation leaves files beside the sources.
    let copy = place.path("python");
    process::must("cp", &["-r", PACKAGE, &copy], LIMIT);
    let pip = ["-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index"];
    process::must(&python, &[&pip[..], &["--no-build-isolation", "--no-deps", &copy]].concat(), LIMIT);
    python
}

#[test]
fn the_python_package_passes_its_tests() {
    let place = Place::new("python");
    let python = environment(&place);
    let asks =
        "import pathlib, volumedriver; print(pathlib.Path(volumedriver.__file__).with_name('py.typed'))";
    let typed = process::must(&python, &["-I", "-c", asks], LIMIT);
    assert!(
        typed.starts_with(place.root().to_str().expect("readable path")),
        "{typed} is not the installed one"
    );
    assert!(Path::new(typed.trim()).is_file(), "{typed} is missing, so nobody's checker sees the types");

    let binary = concat!("OVS_BINARY=", env!("CARGO_BIN_EXE_ovs"));
    // For a node that speaks TLS, and somebody else's authority.
    Authority::new(Path::new(&place.path("authority"))).sign("node");
    Authority::new(Path::new(&place.path("stranger")));
    let certificates = format!("OVS_CERTIFICATES={}", place.root().display());
    let plain =
        ["-C", PACKAGE, "-u", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE=1", binary, &certificates, &python];
    let tests = ["-m", "unittest", "discover", "--verbose", "-s", "tests", "-t", "."];
    let done = process::run("env", &[&plain[..], &tests[..]].concat(), LIMIT);
    assert!(done.status.success(), "{}\n{}{}", done.status, done.stdout, done.stderr);
    // Left out is what the server says comes later, and nothing else: a test without a server has shown nothing.
    let left_out: Vec<&str> = done.stderr.lines().filter(|line| line.contains("... skipped")).collect();
    let odd: Vec<&&str> = left_out.iter().filter(|line| !line.contains("comes with")).collect();
    assert!(odd.is_empty(), "{odd:#?}");
    eprintln!("{} wait for something that comes later", left_out.len());
}

//! Commands that need no node.

mod cli_node;

use cli_node::{DataDir, ended, ovs};

#[test]
fn every_command_explains_itself() {
    for command in [&[][..], &["up"], &["volume"], &["volume", "create"], &["completions"]] {
        let printed = ended(ovs(&[command, &["--help"]].concat()), 0);
        assert!(printed.out.contains("Usage: ovs"), "{}", printed.out);
        assert!(printed.err.is_empty());
    }
    assert!(ended(ovs(&["--version"]), 0).out.starts_with("ovs "));
}

#[test]
fn wrong_arguments_are_one_line_and_exit_2() {
    for (arguments, part) in [
        (&["volume", "create", "a"][..], "--size"),
        (&["volume", "create", "a", "--size", "0"], "cannot have the size 0"),
        (&["volume", "create", "a", "--size", "1000"], "multiple of 512; the next one is 1024"),
        (&["volume", "create", "a", "--size", "10G"], "\"G\" in \"10G\" is not a unit"),
        (&["volume", "create", "a", "--size", "1.5GiB"], "has a fraction"),
        (&["volume", "create", "a", "--size", "-1"], "'-1'"),
        (&["volume", "create", "a", "--size", "99999999PiB"], "is more than"),
        (&["volume", "create", "a/b", "--size", "1MiB"], "is not a volume name"),
        (&["volume", "create", "", "--size", "1MiB"], "NAME"),
        (&["volume", "info", ".."], "is not a volume name"),
        (&["volume", "delete", "-x"], "'-x'"),
        (&["up", "--volume", "a"], "such as vm1=10GiB"),
        (&["up", "--volume", "a=5"], "multiple of 512"),
        (&["up", "--listen", "localhost"], "--listen"),
        (&["volume", "list", "--log-format", "xml"], "xml"),
        (&["volume", "list", "--endpoint", "http://127.0.0.1:26200"], "unix:///PATH"),
        (&["volume", "list", "--endpoint", "unix://relative"], "absolute"),
        (&["frobnicate"], "frobnicate"),
    ] {
        ended(ovs(arguments), 2).assert_error(part);
    }
    let long = "a".repeat(129);
    ended(ovs(&["volume", "info", &long]), 2).assert_error("1 to 128 characters");
}

#[test]
fn listening_off_loopback_is_refused_before_anything_is_made() {
    let directory = DataDir::new();
    directory.run(&["up", "--listen", "0.0.0.0"], 2).assert_error("--insecure");
    directory.run(&["up", "--listen", "::"], 2).assert_error("--insecure");
    directory.run(&["up", "--volume", "a=1MiB", "--volume", "a=2MiB"], 2).assert_error("twice");
    directory.run(&["up", "--log-level", "=loud="], 2).assert_error("--log-level");
    assert!(!directory.as_ref().exists());
}

#[test]
fn a_path_too_long_for_sockets_is_refused() {
    let directory = std::env::temp_dir().join("x".repeat(110));
    let mut command = ovs(&["up", "--data-dir"]);
    command.arg(&directory);
    ended(command, 2).assert_error("give a shorter --data-dir");
    assert!(!directory.exists());
}

#[test]
fn a_node_that_does_not_run_is_not_reachable() {
    let directory = DataDir::new();
    for command in [
        &["volume", "list"][..],
        &["volume", "list", "--json"],
        &["volume", "info", "a"],
        &["volume", "create", "a", "--size", "1MiB"],
        &["volume", "resize", "a", "--size", "1MiB"],
        &["volume", "delete", "a"],
        &["volume", "stats", "a"],
    ] {
        let printed = directory.run(command, 6);
        printed.assert_error("ovs up");
        assert!(printed.out.is_empty());
    }
    ended(ovs(&["volume", "list", "--endpoint", "unix:///nowhere/admin.sock"]), 6)
        .assert_error("no node answers");
    ended(ovs(&["volume", "list", "--endpoint", "/nowhere/endpoints.json"]), 6)
        .assert_error("endpoints.json");
}

#[test]
fn shells_get_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = ended(ovs(&["completions", shell]), 0).out;
        assert!(script.contains("volume") && script.contains("ephemeral"), "{shell}");
    }
    ended(ovs(&["completions", "tcsh"]), 2).assert_error("tcsh");
}

#[test]
fn the_configuration_reference_is_fresh() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
    let stored = std::fs::read_to_string(page).expect("docs/configuration.md");
    let generated = ended(ovs(&["config-reference"]), 0).out;
    assert!(stored == generated, "run: ovs config-reference > docs/configuration.md");
}

#[test]
fn the_json_schema_and_the_sample_name_the_same_parameters() {
    let schema = ended(ovs(&["config-reference", "--format", "json-schema"]), 0).json();
    let sample = ended(ovs(&["config-reference", "--format", "sample"]), 0).json();
    let names = |document: &serde_json::Value| -> Vec<String> {
        document.as_object().expect("an object").keys().cloned().collect()
    };
    let properties = &schema["properties"];
    assert_eq!(names(properties), names(&sample));
    for section in names(&sample) {
        assert_eq!(names(&properties[&section]["properties"]), names(&sample[&section]), "{section}");
    }
}

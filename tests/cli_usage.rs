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
    let generated = ended(ovs(&["config", "docs"]), 0).out;
    assert!(stored == generated, "run: ovs config docs > docs/configuration.md");
}

fn names(document: &serde_json::Value) -> Vec<String> {
    document.as_object().expect("an object").keys().cloned().collect()
}

#[test]
fn the_sample_has_what_has_an_effect_in_the_json_schema() {
    let schema = ended(ovs(&["config", "schema"]), 0).json();
    let sample = ended(ovs(&["config", "sample", "--json"]), 0).json();
    let mut sections = 0;
    for section in names(&schema["properties"]) {
        let mut properties = schema["properties"][&section]["properties"].clone();
        let effective = properties.as_object_mut().expect("an object");
        effective.retain(|_, schema| schema["x-category"] != "no-effect");
        match sample.get(&section) {
            Some(document) => assert_eq!(names(&properties), names(document), "{section}"),
            None => assert!(names(&properties).is_empty(), "{section}"),
        }
        sections += usize::from(sample.get(&section).is_some());
    }
    assert_eq!(sections, names(&sample).len());
}

#[test]
fn the_sample_for_people_explains_the_same_documents() {
    let sample = ended(ovs(&["config", "sample", "--json"]), 0).json();
    let text = ended(ovs(&["config", "sample"]), 0).out;
    let documents: String = text.lines().filter(|line| !line.starts_with("//")).collect();
    let documents = serde_json::Deserializer::from_str(&documents).into_iter::<serde_json::Value>();
    for document in documents {
        let document = document.expect("JSON");
        let sections = sample.as_object().expect("an object");
        assert!(sections.values().any(|section| *section == document), "{document}");
        for key in names(&document) {
            assert!(text.contains(&format!("// {key} (")), "{key}");
        }
    }
}

#[test]
fn the_table_of_the_original_is_printed_without_a_configuration() {
    let table = ended(ovs(&["volumedriver", "run", "--config-help-markdown"]), 0).out;
    // As the framework of the original reads it.
    let rows: Vec<Vec<&str>> =
        table.split("\n|").skip(2).map(|row| row.split('|').map(str::trim).collect()).collect();
    let row = |key: &str| rows.iter().find(|row| row[1] == key).expect("a row").clone();
    assert_eq!(row("trigger_gap")[..4], ["scocache", "trigger_gap", "1GB", "yes"]);
    assert_eq!(row("vrouter_id")[..4], ["volume_router", "vrouter_id", "---", "no"]);
    ended(ovs(&["volumedriver", "run"]), 2).assert_error("--config");
}

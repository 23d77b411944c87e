//! Rules about lines of text: width, words that must not stay, paths of one machine, leftovers of merges, sleeps.

use super::code::{Token, is_word, mask, test_lines, tokens};
use super::{Finding, SourceFile, Tree};

/// Longest line of a .rs file, in characters.
const WIDTH: usize = 120;

/// Endings of the names of files that hold code.
const SOURCES: &[&str] = &[".rs", ".py", ".sh", ".toml", ".js", ".css", ".html", ".yml", ".yaml"];

/// Reminders to oneself; split here so that this list is not one.
const REMINDERS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

/// Macros that stand for work not done, or for a look while debugging.
const UNFINISHED: &[&str] = &["todo", "unimplemented", "dbg"];

/// Folders that exist on one person's machine only.
const MACHINE: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/")];

pub(super) fn line_width(tree: &Tree) -> Vec<Finding> {
    let lines = tree.rust().flat_map(numbered);
    lines
        .filter(|(_, _, line)| line.chars().count() > WIDTH)
        .map(|(file, number, _)| Finding::new(&file.path, number, format!("wider than {WIDTH} characters")))
        .collect()
}

pub(super) fn banned_words(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    let sources = tree.files.iter().filter(|file| SOURCES.iter().any(|ending| file.path.ends_with(ending)));
    for (file, number, line) in sources.flat_map(numbered) {
        let mut words = line.split(|c| !is_word(c));
        if let Some(word) = words.find(|word| REMINDERS.contains(word)) {
            found.push(Finding::new(&file.path, number, format!("{word}: do it, or write an issue")));
        }
    }
    for file in tree.rust() {
        for pair in tokens(&mask(&file.text)).windows(2) {
            let [(Token::Word(word), line), (Token::Other('!'), _)] = pair else { continue };
            if UNFINISHED.contains(&word.as_str()) {
                found.push(Finding::new(&file.path, *line, format!("{word}! must not stay")));
            }
        }
    }
    found
}

pub(super) fn machine_paths(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for (file, number, line) in tree.files.iter().flat_map(numbered) {
        for folder in MACHINE {
            // `/sys/root/` and the like are other folders.
            let own = line.match_indices(folder).any(|(at, _)| !line[..at].ends_with(is_word));
            if own {
                found.push(Finding::new(&file.path, number, format!("{folder} is a folder of one machine")));
            }
        }
    }
    found
}

pub(super) fn merge_markers(tree: &Tree) -> Vec<Finding> {
    let markers = ["<".repeat(7), ">".repeat(7), "|".repeat(7)];
    tree.files
        .iter()
        .flat_map(numbered)
        .filter(|(_, _, line)| markers.iter().any(|marker| line.starts_with(marker.as_str())))
        .map(|(file, number, _)| Finding::new(&file.path, number, "left over from a merge"))
        .collect()
}

/// A test waits for an event. Where it truly must let time pass, the line above says why: `// sleep: reason`.
pub(super) fn unexplained_sleeps(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in tree.rust() {
        let tokens = tokens(&mask(&file.text));
        let tests = test_lines(&file.path, &tokens);
        let lines: Vec<&str> = file.text.lines().collect();
        for pair in tokens.windows(2) {
            let [(Token::Word(word), line), (Token::Other('('), _)] = pair else { continue };
            if word == "sleep" && tests.iter().any(|range| range.contains(line)) {
                let above = line.checked_sub(2).map_or("", |above| lines[above]).trim();
                if above.strip_prefix("// sleep:").is_none_or(|reason| reason.trim().is_empty()) {
                    let message =
                        "a test that sleeps: wait for the event, or say why above: // sleep: reason";
                    found.push(Finding::new(&file.path, *line, message));
                }
            }
        }
    }
    let scripts = tree.files.iter().filter(|file| file.path.contains("tests/") && file.path.ends_with(".py"));
    for file in scripts {
        let mut above = "";
        for (_, number, line) in numbered(file) {
            if line.contains("sleep(") && !above.trim().starts_with("# sleep: ") {
                found.push(Finding::new(
                    &file.path,
                    number,
                    "a test that sleeps: say why above: # sleep: reason",
                ));
            }
            above = line;
        }
    }
    found
}

fn numbered(file: &SourceFile) -> impl Iterator<Item = (&SourceFile, usize, &str)> {
    file.text.lines().enumerate().map(move |(index, line)| (file, index + 1, line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(found: &[Finding]) -> Vec<usize> {
        found.iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn wide_lines_are_found_in_characters_not_bytes() {
        let text = format!("{}\n{}\n", "ä".repeat(WIDTH), "a".repeat(WIDTH + 1));
        assert_eq!(lines(&line_width(&Tree::of(&[("a.rs", &text), ("a.md", &text)]))), [2]);
    }

    #[test]
    fn reminders_and_unfinished_macros_are_found() {
        let reminder = concat!("# TO", "DO later");
        let text = concat!(
            "// FIX",
            "ME\nfn a() {\n to",
            "do!()\n}\n// dbg! in a comment\nlet mktemp = \"XXXXXX\";"
        );
        let tree = Tree::of(&[("a.rs", text), ("b.py", reminder), ("c.md", reminder)]);
        let mut found = banned_words(&tree);
        found.sort();
        let found: Vec<_> = found.iter().map(|f| (f.path.as_str(), f.line)).collect();
        assert_eq!(found, [("a.rs", 1), ("a.rs", 3), ("b.py", 1)]);
    }

    #[test]
    fn machine_paths_are_found_only_from_the_root() {
        let own = concat!("see /wo", "rk/x");
        let other = concat!("see /net/sysroot/x and new/wo", "rk/x");
        let tree = Tree::of(&[("a.md", own), ("b.txt", other)]);
        assert_eq!(machine_paths(&tree).len(), 1);
    }

    #[test]
    fn merge_markers_are_found() {
        let text = format!("a\n{} HEAD\nb\n=======\nc\n{} other\n", "<".repeat(7), ">".repeat(7));
        assert_eq!(lines(&merge_markers(&Tree::of(&[("a.md", &text)]))), [2, 6]);
    }

    #[test]
    fn sleeps_in_tests_need_a_reason() {
        let text = "fn a() { sleep(b) }\n#[cfg(test)]\nmod tests {\n fn c() {\n  thread::sleep(d);\n  \
                    // sleep: the lease must run out\n  thread::sleep(e);\n  // sleep:\n  sleep(f);\n }\n}\n";
        let script = "time.sleep(1)\n# sleep: the server has no event\ntime.sleep(2)\n";
        assert_eq!(lines(&unexplained_sleeps(&Tree::of(&[("src/a.rs", text)]))), [5, 9]);
        assert_eq!(lines(&unexplained_sleeps(&Tree::of(&[("tests/a.py", script), ("b.py", script)]))), [1]);
    }
}

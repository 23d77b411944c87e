//! Rules about documentation: links lead somewhere, and nothing is left out of the pages that list things.

use std::collections::BTreeSet;

use super::{Finding, SourceFile, Tree};
use crate::metadata::Workspace;

const ARCHITECTURE: &str = "docs/ARCHITECTURE.md";
const FORMATS: &str = "docs/formats/";
const DECISIONS: &str = "docs/decisions/";
/// The sentence that states a wall.
const WALL: &str = "knows nothing of";

/// A link from one place of a page: line, target file (resolved, from the root), anchor.
struct Link {
    line: usize,
    target: String,
    anchor: Option<String>,
}

pub(super) fn dead_links(tree: &Tree) -> Vec<Finding> {
    let folders = tree.folders();
    let mut found = Vec::new();
    for page in pages(tree) {
        for link in links(page) {
            let exists = link.target.is_empty() || folders.contains(link.target.as_str());
            match tree.file(&link.target) {
                None if exists => {}
                None => {
                    let message = format!("dead link: there is no {}", link.target);
                    found.push(Finding::new(&page.path, link.line, message));
                }
                Some(target) => {
                    let Some(anchor) = &link.anchor else { continue };
                    if target.path.ends_with(".md") && !anchors(target).contains(anchor) {
                        let message = format!("dead link: {} has no heading #{anchor}", target.path);
                        found.push(Finding::new(&page.path, link.line, message));
                    }
                }
            }
        }
    }
    found
}

/// Every folder with a crate or with tests has a heading that names it, and under it a sentence that states a wall.
pub(super) fn architecture(tree: &Tree, workspace: &Workspace) -> Vec<Finding> {
    let Some(page) = tree.file(ARCHITECTURE) else {
        return vec![Finding::new(ARCHITECTURE, 0, "is missing")];
    };
    let members = workspace.members.iter().map(|member| match member.folder.as_str() {
        "" => "src",
        folder => folder,
    });
    let tests = tree.folders().contains("tests").then_some("tests");
    let mut found = Vec::new();
    for folder in members.chain(tests).collect::<BTreeSet<&str>>() {
        let sections: Vec<&str> = sections(&page.text).filter(|section| heads(section, folder)).collect();
        if sections.is_empty() {
            found.push(Finding::new(ARCHITECTURE, 0, format!("no heading with `{folder}` or `{folder}/`")));
        } else if !sections.iter().any(|section| section.to_lowercase().contains(WALL)) {
            found.push(Finding::new(ARCHITECTURE, 0, format!("nothing says what `{folder}` {WALL}")));
        }
    }
    found
}

/// Every page about a format is linked from the architecture page.
pub(super) fn formats_linked(tree: &Tree) -> Vec<Finding> {
    unlinked(tree, ARCHITECTURE, |path| path.starts_with(FORMATS) && path.ends_with(".md"))
}

/// Decision records carry their date in their name, and stand in the index.
pub(super) fn decisions_indexed(tree: &Tree) -> Vec<Finding> {
    let index = format!("{DECISIONS}README.md");
    let is_record = |path: &str| path.starts_with(DECISIONS) && path.ends_with(".md") && path != index;
    let mut found = unlinked(tree, &index, is_record);
    for file in tree.files.iter().filter(|file| is_record(&file.path)) {
        if !dated(&file.path[DECISIONS.len()..]) {
            found.push(Finding::new(&file.path, 0, "not named YYYY-MM-DD-title.md, in lower case"));
        }
    }
    found
}

fn unlinked(tree: &Tree, from: &str, wanted: impl Fn(&str) -> bool) -> Vec<Finding> {
    let linked: BTreeSet<String> =
        tree.file(from).map(links).unwrap_or_default().into_iter().map(|link| link.target).collect();
    let missing = tree.files.iter().filter(|file| wanted(&file.path) && !linked.contains(&file.path));
    missing.map(|file| Finding::new(&file.path, 0, format!("is not linked from {from}"))).collect()
}

fn dated(name: &str) -> bool {
    let shape =
        |text: &str| -> String { text.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect() };
    let title = name.get(11..).and_then(|rest| rest.strip_suffix(".md")).unwrap_or_default();
    name.get(..11).is_some_and(|date| shape(date) == "9999-99-99-")
        && !title.is_empty()
        && title.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

fn pages(tree: &Tree) -> impl Iterator<Item = &SourceFile> {
    tree.files.iter().filter(|file| file.path.ends_with(".md"))
}

/// Links between files of the checkout, from the prose of a page.
fn links(page: &SourceFile) -> Vec<Link> {
    let mut found = Vec::new();
    for (number, line) in prose(&page.text) {
        for (at, _) in line.match_indices("](") {
            let rest = &line[at + 2..];
            let Some(end) = rest.find([')', ' ']) else { continue };
            let target = &rest[..end];
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = match target.split_once('#') {
                Some((file, anchor)) => (file, Some(anchor.to_string())),
                None => (target, None),
            };
            let target = if file.is_empty() { page.path.clone() } else { resolved(&page.path, file) };
            found.push(Link { line: number, target, anchor });
        }
    }
    found
}

/// Lines outside fenced code, without what stands between backticks.
fn prose(text: &str) -> Vec<(usize, String)> {
    let mut fenced = false;
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            // A link's text may be code (`[`a`](b)`), so only what lies inside the backticks goes.
            let outside: Vec<&str> = line.split('`').step_by(2).collect();
            found.push((index + 1, outside.join("``")));
        }
    }
    found
}

/// A relative link as a path from the root.
fn resolved(page: &str, target: &str) -> String {
    let mut parts: Vec<&str> = match target.strip_prefix('/') {
        Some(_) => Vec::new(),
        None => page.split('/').rev().skip(1).collect::<Vec<_>>().into_iter().rev().collect(),
    };
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The anchors of a page's headings, as forges make them.
fn anchors(page: &SourceFile) -> BTreeSet<String> {
    let lines = page.text.lines().filter(|line| line.starts_with('#'));
    lines
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

/// A page cut before each of its headings.
fn sections(text: &str) -> impl Iterator<Item = &str> {
    let mut starts: Vec<usize> = text.match_indices("\n#").map(|(at, _)| at + 1).collect();
    starts.insert(0, 0);
    starts.push(text.len());
    (1..starts.len()).map(move |next| &text[starts[next - 1]..starts[next]])
}

/// Whether a section's heading names the folder in backticks.
fn heads(section: &str, folder: &str) -> bool {
    let heading = section.lines().next().unwrap_or_default();
    heading.starts_with('#')
        && heading.split('`').skip(1).step_by(2).any(|code| code.trim_end_matches('/') == folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Member;

    fn found(findings: Vec<Finding>) -> Vec<String> {
        findings.iter().map(Finding::to_string).collect()
    }

    #[test]
    fn dead_links_and_anchors_are_found() {
        let page = "# A page\n[a](b.md) [`c`](../d) [e](gone.md)\n[f](b.md#a-heading) [g](b.md#none)\n\
                    [h](https://x/y) `[i](no.md)` [j](#a-page)\n```\n[k](no.md)\n```\n[l](/docs/b.md)";
        let tree = Tree::of(&[("docs/a.md", page), ("docs/b.md", "# A heading!"), ("d/x", "")]);
        assert_eq!(
            found(dead_links(&tree)),
            [
                "docs/a.md:2: dead link: there is no docs/gone.md",
                "docs/a.md:3: dead link: docs/b.md has no heading #none"
            ]
        );
    }

    #[test]
    fn folders_without_heading_or_wall_are_found() {
        let member = |folder: &str| Member { folder: folder.into(), ..Member::default() };
        let workspace =
            Workspace { members: vec![member(""), member("uring"), member("cfg/schema"), member("dtl")] };
        let page = "# Map\n## `src/`\nKnows nothing of storage.\n## `uring/`\nFast.\n### `cfg/schema`, `cfg/client`\n\
                    They\nknows nothing of volumes\n";
        let tree = Tree::of(&[(ARCHITECTURE, page)]);
        assert_eq!(
            found(architecture(&tree, &workspace)),
            [
                "docs/ARCHITECTURE.md: no heading with `dtl` or `dtl/`",
                "docs/ARCHITECTURE.md: nothing says what `uring` knows nothing of"
            ]
        );
        assert_eq!(found(architecture(&Tree::default(), &workspace)), ["docs/ARCHITECTURE.md: is missing"]);
    }

    #[test]
    fn formats_that_are_not_linked_are_found() {
        let tree = Tree::of(&[
            (ARCHITECTURE, "[record](formats/record.md)"),
            ("docs/formats/record.md", ""),
            ("docs/formats/run.md", ""),
        ]);
        assert_eq!(
            found(formats_linked(&tree)),
            ["docs/formats/run.md: is not linked from docs/ARCHITECTURE.md"]
        );
    }

    #[test]
    fn decisions_outside_the_index_or_without_date_are_found() {
        let tree = Tree::of(&[
            ("docs/decisions/README.md", "[a](2026-01-02-a-b.md) [c](c.md)"),
            ("docs/decisions/2026-01-02-a-b.md", ""),
            ("docs/decisions/2026-01-03-d.md", ""),
            ("docs/decisions/c.md", ""),
        ]);
        let found = found(decisions_indexed(&tree));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("2026-01-03-d.md: is not linked"), "{found:?}");
        assert!(found[1].contains("c.md: not named"), "{found:?}");
    }
}

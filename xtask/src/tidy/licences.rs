//! Licences, bans and sources of deny.toml, held against everything the lock file resolves to. cargo-deny does the same
//! and more, but takes minutes to build; this runs in every test run.

use super::{Finding, Tree};
use crate::metadata::External;

const LIST: &str = "deny.toml";

pub(super) fn allowed(tree: &Tree, externals: &[External]) -> Vec<Finding> {
    let text = tree.file(LIST).map_or("", |file| file.text.as_str());
    let licences = array(text, "licenses", "allow");
    let licences = strings(&licences);
    let bans = array(text, "bans", "deny");
    let banned: Vec<&str> =
        bans.split("crate = \"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let mut found = Vec::new();
    for (what, empty) in [("licenses", licences.is_empty()), ("bans", banned.is_empty())] {
        if empty {
            found.push(Finding::new(LIST, 0, format!("no list found under [{what}]")));
        }
    }
    for external in externals {
        let name = format!("{} {}", external.name, external.version);
        if !licence_allowed(&external.license, &licences) {
            found.push(Finding::new(
                LIST,
                0,
                format!("{name}: licence {:?} is not allowed", external.license),
            ));
        }
        if banned.contains(&external.name.as_str()) {
            found.push(Finding::new(
                LIST,
                0,
                format!("{name} is banned; `cargo tree -i {}` shows who uses it", external.name),
            ));
        }
        if !external.source.starts_with("registry+") {
            found.push(Finding::new(
                LIST,
                0,
                format!("{name} comes from {}, not from a registry", external.source),
            ));
        }
    }
    found
}

/// The text between the brackets of `[section] ... key = [ ... ]`. Enough of TOML for lists without nested brackets.
fn array(text: &str, section: &str, key: &str) -> String {
    let mut inside = false;
    let mut taken: Option<String> = None;
    for line in text.lines() {
        let line = line.trim();
        if let Some(list) = &mut taken {
            match line.strip_prefix(']') {
                Some(_) => break,
                None if !line.starts_with('#') => *list += line,
                None => {}
            }
        } else if line.starts_with('[') {
            inside = line == format!("[{section}]");
        } else if inside && line.split('=').next().is_some_and(|name| name.trim() == key) {
            let list = line.split_once('[').map_or("", |(_, list)| list);
            if let Some((whole, _)) = list.split_once(']') {
                return whole.to_string();
            }
            taken = Some(list.to_string());
        }
    }
    taken.unwrap_or_default()
}

/// The quoted strings of a list.
fn strings(list: &str) -> Vec<&str> {
    list.split('"').skip(1).step_by(2).collect()
}

/// Whether an SPDX expression can be met with the allowed licences. `AND` binds closer than `OR`; the old `A/B` is
/// `OR`.
fn licence_allowed(expression: &str, allowed: &[&str]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let met = either(&words, &mut at, allowed);
    met == Some(true) && at == words.len()
}

/// `None`: not an expression.
fn either(words: &[&str], at: &mut usize, allowed: &[&str]) -> Option<bool> {
    let mut met = both(words, at, allowed)?;
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        met |= both(words, at, allowed)?;
    }
    Some(met)
}

fn both(words: &[&str], at: &mut usize, allowed: &[&str]) -> Option<bool> {
    let mut met = one(words, at, allowed)?;
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        met &= one(words, at, allowed)?;
    }
    Some(met)
}

fn one(words: &[&str], at: &mut usize, allowed: &[&str]) -> Option<bool> {
    let word = *words.get(*at)?;
    *at += 1;
    if word == "(" {
        let met = either(words, at, allowed)?;
        let closed = words.get(*at) == Some(&")");
        *at += 1;
        return closed.then_some(met);
    }
    if words.get(*at) == Some(&"WITH") {
        let exception = words.get(*at + 1)?;
        *at += 2;
        return Some(allowed.contains(&format!("{word} WITH {exception}").as_str()));
    }
    Some(allowed.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DENY: &str = "[graph]\ntargets = [\"x\"]\n[licenses]\n# allow = [\"GPL-3.0\"]\nallow = [\n    \"MIT\",\n    \
                        # why\n    \"Apache-2.0 WITH LLVM-exception\",\n]\n[bans]\ndeny = [\n    \
                        { crate = \"sled\", reason = \"old [1]\" },\n]\n";

    fn external(name: &str, license: &str, source: &str) -> External {
        let text = str::to_string;
        External { name: text(name), version: text("1.0.0"), license: text(license), source: text(source) }
    }

    #[test]
    fn foreign_licences_banned_crates_and_other_sources_are_found() {
        let externals = [
            external("fine", "MIT OR GPL-3.0", "registry+x"),
            external("copyleft", "GPL-3.0", "registry+x"),
            external("unsaid", "", "registry+x"),
            external("sled", "MIT", "registry+x"),
            external("fork", "MIT", "git+x"),
        ];
        let found: Vec<String> =
            allowed(&Tree::of(&[(LIST, DENY)]), &externals).iter().map(Finding::to_string).collect();
        assert_eq!(found.len(), 4, "{found:?}");
        for (finding, part) in found.iter().zip(["copyleft", "unsaid", "sled 1.0.0 is banned", "fork"]) {
            assert!(finding.contains(part), "{finding}");
        }
        assert_eq!(allowed(&Tree::of(&[(LIST, "")]), &[]).len(), 2, "lists that cannot be read are no lists");
    }

    #[test]
    fn licence_expressions_follow_spdx() {
        let allowed = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"];
        for good in
            ["MIT", "GPL-3.0/MIT", "(MIT OR X) AND ISC", "X AND Y OR MIT", "Apache-2.0 WITH LLVM-exception"]
        {
            assert!(licence_allowed(good, &allowed), "{good}");
        }
        for bad in [
            "",
            "X",
            "MIT AND X",
            "MIT OR",
            "(MIT",
            "MIT MIT",
            "Apache-2.0",
            "MIT WITH X",
            "MIT AND (X OR Y)",
        ] {
            assert!(!licence_allowed(bad, &allowed), "{bad}");
        }
    }
}

//! `ovs config edit`: a document in the person's editor.

use std::collections::BTreeSet;

use cfg_client::{KeyPath, Pair};
use serde_json::{Value as Json, json};

use super::Session;
use super::change::{self, Edit, Intent};
use super::check::Check;
use super::diff::{leaves, place_name};
use super::editor::{self, Draft};
use super::secret::{Content, MASK};
use super::write::{TRIES, busy, not_stored};
use crate::failure::{Failure, Kind};
use crate::output;

/// Longest value in the view of a conflict, in characters.
const CELL: usize = 40;

/// What became of an edited text.
enum Outcome {
    Stored,
    /// Someone else changed the key, to this.
    Collision(Option<Pair>),
}

impl Session {
    pub(super) async fn edit(
        &self,
        key: &KeyPath,
        note: Option<String>,
        check: Check,
    ) -> Result<(), Failure> {
        let intent = Intent::new("edit", note)?;
        let base = self.current(key).await?;
        // What cannot be stored is told before somebody writes in vain.
        let probe = Edit { key: key.clone(), before: base.clone(), after: Some(b"{}".to_vec()), other: None };
        change::check(std::slice::from_ref(&probe))?;
        change::check_places(&self.store, &[probe]).await?;
        let begin = pretty(key, base.as_ref())?;
        let mut draft = Draft::new(key, &begin)?;
        loop {
            draft.edit().await?;
            let text = draft.read();
            match text.as_deref() {
                Ok(text) if text == begin => return self.nothing(key, base.as_ref()),
                Ok(text) if text.trim().is_empty() => {
                    let message =
                        "the text is empty, so nothing was changed; `ovs config delete` deletes a key";
                    return Err(Failure::rejected(message));
                }
                _ => {}
            }
            let taken = match text {
                Ok(text) => self.take(key, base.as_ref(), &text, &intent, check).await,
                Err(failure) => Err(failure),
            };
            match taken {
                Ok(Outcome::Stored) => return Ok(()),
                Ok(Outcome::Collision(theirs)) => return Err(collision(key, base.as_ref(), theirs, draft)?),
                Err(failure) => {
                    if failure.kind() == Kind::Rejected && std::io::IsTerminal::is_terminal(&std::io::stdin())
                    {
                        eprintln!("ovs: {failure}");
                        if editor::again().await? {
                            continue;
                        }
                    }
                    let kept = draft.keep().display();
                    return Err(Failure::new(
                        failure.kind(),
                        format!("{failure}; your text is kept in {kept}"),
                    ));
                }
            }
        }
    }

    /// Stores an edited text, if nobody else changed the key.
    async fn take(
        &self,
        key: &KeyPath,
        base: Option<&Pair>,
        text: &str,
        intent: &Intent,
        check: Check,
    ) -> Result<Outcome, Failure> {
        let value: Json = serde_json::from_str(text)
            .map_err(|error| Failure::rejected(format!("the text for {key} is no JSON: {error}")))?;
        let stored = base.map(|pair| Content::of(&pair.value));
        let mut content = Content::Json(value);
        content.unmask(key, stored.as_ref()).map_err(|missing| not_stored(key, &missing))?;
        if stored.as_ref() == Some(&content) {
            self.nothing(key, base)?;
            return Ok(Outcome::Stored);
        }
        let revision = |pair: Option<&Pair>| pair.map_or(0, |pair| pair.mod_revision);
        for _ in 0..TRIES {
            let now = self.current(key).await?;
            if revision(now.as_ref()) != revision(base) {
                // Both did the same.
                if now.as_ref().is_some_and(|now| Content::of(&now.value) == content) {
                    self.nothing(key, now.as_ref())?;
                    return Ok(Outcome::Stored);
                }
                return Ok(Outcome::Collision(now));
            }
            let after = Some(content.bytes());
            let edit = Edit { key: key.clone(), before: base.cloned(), after, other: None };
            // A conflict may also be one of another section, of which the check depends.
            if let Some(done) = self.commit(&[edit], intent, check).await? {
                let revision = done.revision;
                let result = json!({"key": key.as_str(), "revision": revision, "changed": true});
                self.show_changed(&done.report, result, || format!("edited {key} at revision {revision}"))?;
                return Ok(Outcome::Stored);
            }
        }
        Err(busy(key))
    }

    fn nothing(&self, key: &KeyPath, stored: Option<&Pair>) -> Result<(), Failure> {
        let revision = stored.map_or(0, |pair| pair.mod_revision);
        let result = json!({"key": key.as_str(), "revision": revision, "changed": false});
        self.show(&result, || format!("{key} is as it was; nothing was changed"))
    }
}

/// The text that a person begins with: secrets masked; of a key that is not there, an empty object.
fn pretty(key: &KeyPath, stored: Option<&Pair>) -> Result<String, Failure> {
    let Some(pair) = stored else { return Ok("{}\n".to_owned()) };
    let mut content = Content::of(&pair.value);
    content.mask(key);
    match content {
        Content::Json(value) => Ok(format!("{value:#}\n")),
        Content::Bytes(_) => Err(Failure::rejected(format!("{key} is no JSON; set it as a whole"))),
    }
}

/// Keeps both versions, and shows what each did to the one before.
fn collision(
    key: &KeyPath,
    base: Option<&Pair>,
    theirs: Option<Pair>,
    mut draft: Draft,
) -> Result<Failure, Failure> {
    let mine = draft.read()?;
    let other = match &theirs {
        None => "and deleted it".to_owned(),
        Some(pair) => {
            let mut content = Content::of(&pair.value);
            content.mask(key);
            let text = match &content {
                Content::Json(value) => format!("{value:#}\n"),
                Content::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            };
            let path = draft.keep_beside("theirs", &text)?;
            format!("at revision {}, and theirs is in {}", pair.mod_revision, path.display())
        }
    };
    let value = |pair: &Pair| Content::of(&pair.value);
    let mine = serde_json::from_str(&mine).ok().map(Content::Json);
    eprintln!("{}", three_ways(key, base.map(value), theirs.as_ref().map(value), mine));
    let message = format!(
        "someone else changed {key} meanwhile, {other}; yours was not stored and is in {}",
        draft.keep().display()
    );
    Ok(Failure::new(Kind::Conflict, message))
}

/// Each value that is not the same in all three.
fn three_ways(
    key: &KeyPath,
    base: Option<Content>,
    theirs: Option<Content>,
    mut mine: Option<Content>,
) -> String {
    // A secret that was left alone is the one of the beginning.
    if let Some(mine) = &mut mine {
        let _ = mine.unmask(key, base.as_ref());
    }
    let sides = [base, theirs, mine].map(|content| {
        let secrets = content.clone().map(|mut content| content.mask(key)).unwrap_or_default();
        let value = content.map(|content| content.shown());
        (value.as_ref().map(leaves).unwrap_or_default(), secrets)
    });
    let places: BTreeSet<&String> = sides.iter().flat_map(|(values, _)| values.keys()).collect();
    let mut rows = Vec::new();
    for place in places {
        let values = [0, 1, 2].map(|side| sides[side].0.get(place));
        if values[0] == values[1] && values[1] == values[2] {
            continue;
        }
        let cell = |side: usize| match values[side] {
            None => "-".to_owned(),
            Some(_) if sides[side].1.contains_key(place) && values[side] == values[0] => MASK.to_owned(),
            Some(_) if sides[side].1.contains_key(place) => format!("another {MASK}"),
            Some(value) => shortened(&value.to_string()),
        };
        rows.push([place_name(place), cell(0), cell(1), cell(2)]);
    }
    output::table(["PLACE", "BEFORE", "THEIRS", "YOURS"], &[], &rows)
}

fn shortened(text: &str) -> String {
    match text.chars().count() {
        length if length > CELL => text.chars().take(CELL).chain(['…']).collect(),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_versions_are_shown_by_place() {
        let key = KeyPath::parse("/a").expect("a key");
        let content = |value: Json| Some(Content::Json(value));
        let shown = three_ways(
            &key,
            content(json!({"x": 1, "y": 1, "same": 0, "password": "a", "token": "a"})),
            content(json!({"x": 2, "y": 1, "same": 0, "password": "b", "token": "a"})),
            content(json!({"x": 1, "z": {"w": 3}, "same": 0, "password": "***", "token": "c"})),
        );
        let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            lines,
            [
                vec!["PLACE", "BEFORE", "THEIRS", "YOURS"],
                vec!["password", "***", "another", "***", "***"],
                vec!["token", "***", "***", "another", "***"],
                vec!["x", "1", "2", "1"],
                vec!["y", "1", "1", "-"],
                vec!["z.w", "-", "-", "3"],
            ]
        );
        let gone = three_ways(&key, content(json!({"x": 1})), None, content(json!({"x": 2})));
        assert!(gone.ends_with("x      1       -       2"), "{gone}");
    }
}

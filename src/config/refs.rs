//! Who refers to a key: references `{"$ref": …}`, and parameters that hold the URL of a configuration.

use std::collections::BTreeSet;

use cfg_client::{Content as ListContent, KeyPath, KeyRange, MARKERS, Pair, StoreUrl};
use cfg_engine::REF;
use serde::Serialize;
use serde_json::Value as Json;

use super::history::HISTORY;
use super::host::VPOOLS;
use super::place::Place;
use super::{Session, failure_of};
use crate::failure::{Failure, Kind};

/// Referrers that a refusal names.
const NAMES: usize = 3;

/// A value that refers to something.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Referrer {
    /// The document that it is in.
    key: String,
    /// The value: `/a/b|x.y`.
    place: String,
    /// What it refers to: `/a/b`, `/a/b|x.y`, or the path of a URL.
    to: String,
    /// `reference` or `url`.
    kind: &'static str,
}

impl Session {
    /// `ovs config refs`
    pub(super) async fn refs(&self, place: &Place) -> Result<(), Failure> {
        let referrers = self.referrers(place).await?;
        if referrers.is_empty() && !self.json {
            return Ok(());
        }
        self.show(&referrers, || {
            let lines = referrers.iter().map(|referrer| {
                let Referrer { place, to, kind, .. } = referrer;
                let what = if *kind == "url" { "has the URL of" } else { "refers to" };
                format!("{place} {what} {to}")
            });
            lines.collect::<Vec<_>>().join("\n")
        })
    }

    /// Refuses to take away what others refer to. Documents of `going` go with it, and do not count.
    pub(super) async fn refuse_if_referred(
        &self,
        place: &Place,
        going: &BTreeSet<&str>,
    ) -> Result<(), Failure> {
        let mut referrers = self.referrers(place).await?;
        referrers.retain(|referrer| !going.contains(referrer.key.as_str()));
        if referrers.is_empty() {
            return Ok(());
        }
        let names: Vec<String> =
            referrers.iter().take(NAMES).map(|referrer| referrer.place.clone()).collect();
        let more = match referrers.len().saturating_sub(NAMES) {
            0 => String::new(),
            more => format!(" and {more} more (see `ovs config refs {place}`)"),
        };
        let message = format!("{place} is referred to by {}{more}; change that first", names.join(", "));
        Err(Failure::new(Kind::Conflict, message))
    }

    /// Everything that refers to `place`, or to something in or below it.
    async fn referrers(&self, place: &Place) -> Result<Vec<Referrer>, Failure> {
        let mut found = Vec::new();
        for pair in self.documents_of_people().await? {
            let Ok(key) = str::from_utf8(&pair.key) else { continue };
            let Ok(value) = serde_json::from_slice::<Json>(&pair.value) else { continue };
            walk(key, &value, &mut Vec::new(), place, &mut found);
        }
        // Not what is inside the place itself.
        found.retain(|referrer| !is_inside(referrer, place));
        Ok(found)
    }

    /// All documents of one revision but those that `ovs` keeps for itself, and records of what happened.
    async fn documents_of_people(&self) -> Result<Vec<Pair>, Failure> {
        let path = |path: &str| KeyPath::parse(path).map_err(failure_of);
        let (changes, history) = (path(MARKERS)?.below(), path(HISTORY)?.below());
        // `.` and `0` stand before and behind `/`.
        let (before, behind) = (KeyRange::prefix("."), KeyRange::prefix("0"));
        let mut revision = None;
        let mut pairs = Vec::new();
        for (first, second) in [(&before, &changes), (&changes, &history), (&history, &behind)] {
            let range = KeyRange::between(first, second);
            let listing = self.store.list(&range, ListContent::Values, revision).await.map_err(failure_of)?;
            revision = Some(listing.revision);
            pairs.extend(listing.pairs.into_iter().filter(|pair| pair.lease == 0 && !is_record(&pair.key)));
        }
        Ok(pairs)
    }
}

/// Whether a key says what happened, and nothing reads it as configuration.
fn is_record(key: &[u8]) -> bool {
    let Some(rest) = str::from_utf8(key).ok().and_then(|key| key.strip_prefix(VPOOLS)) else { return false };
    let parts: Vec<&str> = rest.split('/').skip(2).collect();
    let of_service =
        |parts: &[&str]| matches!(parts, ["feedback", ..] | ["update" | "status" | "last_status" | "frozen"]);
    match parts.as_slice() {
        ["update"] | ["rollouts" | "rollout_drivers", ..] => true,
        ["hosts" | "proxies", _, rest @ ..] => of_service(rest),
        _ => false,
    }
}

/// Whether a referrer is a part of what is asked about: it goes where that goes.
fn is_inside(referrer: &Referrer, place: &Place) -> bool {
    let key = place.key.as_str();
    let steps = || Place::parse(&referrer.place).map(|place| place.steps);
    referrer.key == key && !place.steps.is_empty() && steps().is_ok_and(|s| s.starts_with(&place.steps))
}

fn walk(key: &str, value: &Json, steps: &mut Vec<String>, wanted: &Place, found: &mut Vec<Referrer>) {
    let place = |steps: &[String]| match steps {
        [] => key.to_owned(),
        steps => format!("{key}|{}", steps.join(".")),
    };
    match value {
        Json::Object(members) => {
            let target = members.get(REF).and_then(Json::as_str).map(|text| (text, Place::parse(text)));
            if let Some((text, Ok(target))) = target
                && leads_into(&target, wanted)
            {
                let (to, kind) = (text.to_owned(), "reference");
                found.push(Referrer { key: key.to_owned(), place: place(steps), to, kind });
            }
            for (name, member) in members {
                steps.push(name.clone());
                walk(key, member, steps, wanted, found);
                steps.pop();
            }
        }
        Json::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                steps.push(index.to_string());
                walk(key, element, steps, wanted, found);
                steps.pop();
            }
        }
        Json::String(text) if text.starts_with("etcd://") => {
            let Ok(url) = StoreUrl::parse(text) else { return };
            let names = !url.path.is_root() && wanted.key.covers(url.path.as_str().as_bytes());
            if names && wanted.steps.is_empty() {
                let (to, kind) = (url.path.to_string(), "url");
                found.push(Referrer { key: key.to_owned(), place: place(steps), to, kind });
            }
        }
        _ => {}
    }
}

/// Whether `target` is `wanted`, or lies in or below it.
fn leads_into(target: &Place, wanted: &Place) -> bool {
    if wanted.steps.is_empty() {
        return wanted.key.covers(target.key.as_str().as_bytes());
    }
    wanted.key == target.key && target.steps.starts_with(&wanted.steps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn referrers_are_found_by_what_they_lead_into() {
        let document = json!({
            "a": {"$ref": "/t/x|m.n"}, "b": [{"$ref": "/t/x"}], "c": "etcd://h:1,i/t/x", "d": "etcd://h:1/",
            "e": {"$ref": "/t/xy|m"}, "f": "/t/x", "g": {"$ref": "x"}, "h": {"$ref": "/t/x|mm"}, "i": "etcd://h/t/xy",
        });
        for (wanted, expected) in [
            ("/t/x", &["/k|a", "/k|b.0", "/k|c", "/k|h"][..]),
            ("/t", &["/k|a", "/k|b.0", "/k|c", "/k|e", "/k|h", "/k|i"]),
            ("/t/x|m", &["/k|a"]),
            ("/t/x|m.n.o", &[]),
            ("/t/x/y", &[]),
        ] {
            let mut found = Vec::new();
            let wanted = Place::parse(wanted).expect("a place");
            walk("/k", &document, &mut Vec::new(), &wanted, &mut found);
            let places: Vec<&str> = found.iter().map(|referrer| referrer.place.as_str()).collect();
            assert_eq!(places, expected, "{wanted}");
        }
    }

    #[test]
    fn records_refer_to_nothing() {
        for (key, record) in [
            ("/ovs/vpools/g/update", true),
            ("/ovs/vpools/g/rollouts/1", true),
            ("/ovs/vpools/g/hosts/h/feedback/u1", true),
            ("/ovs/vpools/g/hosts/h/last_status", true),
            ("/ovs/vpools/g/proxies/p/status", true),
            ("/ovs/vpools/g/proxies/p/config/main", false),
            ("/ovs/vpools/g/hosts/h/config/status", false),
            ("/ovs/vpools/g/volumes/v/config", false),
            ("/update", false),
        ] {
            assert_eq!(is_record(key.as_bytes()), record, "{key}");
        }
    }
}

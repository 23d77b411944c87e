//! Secrets in documents: which values they are, how they are masked, and the keyed hashes that history keeps of them.
//!
//! The declaration of a parameter says whether it is a secret; of what is not declared, its name does ([`is_secret`]).
//! So says `docs/decisions/2026-11-21-secrets-by-name.md`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use cfg_client::KeyPath;
use cfg_schema::{Declaration, SectionDeclaration};
use ring::hmac;
use serde_json::Value as Json;
use volumedriver::parameters::Parameters;

use super::place::escaped;
use super::update::rollout::Rollouts;

/// What stands in place of a secret.
pub(crate) use cfg_schema::MASK;

/// Parts of names of secrets.
const PARTS: &[&str] = &["password", "passwd", "passphrase", "secret", "token", "credential"];

/// Ends of names of secrets.
const ENDS: &[&str] =
    &["private_key", "access_key", "account_key", "api_key", "encryption_key", "master_key"];

/// Ends of names that speak about a secret and are none.
const ABOUT: &[&str] =
    &["_file", "_path", "_ms", "_secs", "_seconds", "_length", "_size", "_limit", "_name", "_id"];

/// JSON pointer in a document → keyed hash of the secret there.
pub(crate) type Hashes = BTreeMap<String, String>;

/// Whether a parameter or key of this name holds a secret.
pub(crate) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    let named = PARTS.iter().any(|part| name.contains(part)) || ENDS.iter().any(|end| name.ends_with(end));
    named && !ABOUT.iter().any(|end| name.ends_with(end))
}

/// What is declared of the members of an object.
#[derive(Clone, Copy, Default)]
struct Declared {
    members: &'static [Declaration],
    /// Objects `0`, `1`, … have the same members.
    numbered: bool,
}

impl Declared {
    /// Of the document at `key`: something if that is a section of a configuration.
    fn of(key: &KeyPath) -> Option<Declared> {
        static SECTIONS: LazyLock<Vec<SectionDeclaration>> = LazyLock::new(Parameters::declarations);
        let (folder, name) = key.as_str().rsplit_once('/')?;
        let section =
            SECTIONS.iter().find(|section| section.section == name && folder.ends_with("/config"))?;
        Some(Declared { members: &section.parameters, numbered: section.numbered.is_some() })
    }

    /// Whether member `name` is a secret, and what is declared of its own members.
    fn member(self, name: &str) -> (bool, Declared) {
        if let Some(declaration) = self.members.iter().find(|declaration| declaration.key == name) {
            return (declaration.secret, Declared { members: &declaration.fields, numbered: false });
        }
        if self.numbered && name.bytes().all(|byte| byte.is_ascii_digit()) {
            return (false, self);
        }
        (is_secret(name), Declared::default())
    }
}

/// The value of a key: JSON if it is that, else bytes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Content {
    /// JSON.
    Json(Json),
    /// Something that a foreign client stored.
    Bytes(Vec<u8>),
}

impl Content {
    /// Reads the value of a key.
    pub(crate) fn of(value: &[u8]) -> Content {
        serde_json::from_slice(value).map_or_else(|_| Content::Bytes(value.to_vec()), Content::Json)
    }

    /// As it is stored.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            Content::Json(value) => value.to_string().into_bytes(),
            Content::Bytes(bytes) => bytes.clone(),
        }
    }

    /// For people and for output as JSON: text if it is text, else hexadecimal digits.
    pub(crate) fn shown(&self) -> Json {
        match self {
            Content::Json(value) => value.clone(),
            Content::Bytes(bytes) => match str::from_utf8(bytes) {
                Ok(text) => Json::String(text.to_owned()),
                Err(_) => Json::String(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
            },
        }
    }

    /// Replaces each secret by [`MASK`]; returns them by their JSON pointers.
    pub(crate) fn mask(&mut self, key: &KeyPath) -> BTreeMap<String, Json> {
        if let (Some(_), Content::Json(document)) = (Rollouts::place(key.as_str()), &mut *self) {
            return mask_rollout(document);
        }
        let mut found = BTreeMap::new();
        let declared = Declared::of(key);
        let secret = declared.is_none() && is_secret(key.as_str().rsplit('/').next().unwrap_or_default());
        let declared = declared.unwrap_or_default();
        match self {
            Content::Json(value) => {
                walk(value, &mut String::new(), secret, declared, &mut |pointer, value| {
                    found.insert(pointer.to_owned(), std::mem::replace(value, MASK.into()));
                })
            }
            Content::Bytes(bytes) if secret && !bytes.is_empty() => {
                found.insert(String::new(), self.shown());
                *self = Content::Bytes(MASK.into());
            }
            Content::Bytes(_) => {}
        }
        found
    }

    /// Puts the stored secret wherever a secret is [`MASK`].
    ///
    /// # Errors
    /// The pointers at which nothing is stored.
    pub(crate) fn unmask(&mut self, key: &KeyPath, stored: Option<&Content>) -> Result<(), Vec<String>> {
        let mut masked = Vec::new();
        let mut keep = self.clone();
        for (pointer, value) in keep.mask(key) {
            if value == MASK {
                masked.push(pointer);
            }
        }
        if masked.is_empty() {
            return Ok(());
        }
        let secrets = stored.cloned().map(|mut stored| stored.mask(key)).unwrap_or_default();
        let missing: Vec<String> =
            masked.iter().filter(|pointer| !secrets.contains_key(*pointer)).cloned().collect();
        if !missing.is_empty() {
            return Err(missing);
        }
        for pointer in masked {
            match self {
                Content::Json(document) => {
                    if let Some(place) = document.pointer_mut(&pointer) {
                        *place = secrets[&pointer].clone();
                    }
                }
                Content::Bytes(_) => {
                    if let Some(stored) = stored {
                        *self = stored.clone();
                    }
                }
            }
        }
        Ok(())
    }
}

/// The same for the document of a roll-out: each new and old value is masked as the document that it is for. An old
/// value is a text, and goes as a whole if there is a secret in it.
fn mask_rollout(document: &mut Json) -> BTreeMap<String, Json> {
    let mut found = BTreeMap::new();
    for member in ["changes", "old"] {
        let Some(values) = document.get_mut(member).and_then(Json::as_object_mut) else { continue };
        for (path, value) in values {
            let key = KeyPath::parse(path).unwrap_or_else(|_| KeyPath::root());
            let pointer = format!("/{member}/{}", escaped(path));
            if member == "changes" {
                let mut content = Content::Json(std::mem::take(value));
                let secrets = content.mask(&key);
                *value = content.shown();
                found
                    .extend(secrets.into_iter().map(|(inner, secret)| (format!("{pointer}{inner}"), secret)));
            } else if let Some(old @ Json::String(_)) = value.get_mut("value") {
                let text = old.as_str().unwrap_or_default();
                if text == MASK || !Content::of(text.as_bytes()).mask(&key).is_empty() {
                    found.insert(format!("{pointer}/value"), std::mem::replace(old, MASK.into()));
                }
            }
        }
    }
    found
}

/// Calls `f` with each secret and its pointer.
fn walk(
    value: &mut Json,
    pointer: &mut String,
    secret: bool,
    declared: Declared,
    f: &mut impl FnMut(&str, &mut Json),
) {
    let length = pointer.len();
    match value {
        Json::Object(members) => {
            for (name, value) in members {
                // A reference says where the secret is, not what it is.
                if name != "$ref" {
                    pointer.push('/');
                    pointer.push_str(&escaped(name));
                    let (named, declared) = declared.member(name);
                    walk(value, pointer, secret || named, declared, f);
                    pointer.truncate(length);
                }
            }
        }
        Json::Array(elements) => {
            for (index, value) in elements.iter_mut().enumerate() {
                pointer.push_str(&format!("/{index}"));
                walk(value, pointer, secret, declared, f);
                pointer.truncate(length);
            }
        }
        Json::String(text) if secret && !text.is_empty() => f(pointer, value),
        Json::Number(_) if secret => f(pointer, value),
        _ => {}
    }
}

/// Makes the hashes. Its key is in the store, so that hashes of different hosts agree.
pub(crate) struct Hasher(hmac::Key);

impl Hasher {
    /// With this key.
    pub(crate) fn new(key: &[u8]) -> Hasher {
        Hasher(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// Hashes of the secrets of one key. The place goes into the hash: equal secrets at two places do not show.
    pub(crate) fn hashes(&self, key: &KeyPath, secrets: &BTreeMap<String, Json>) -> Hashes {
        let hash = |pointer: &str, value: &Json| {
            let tag = hmac::sign(&self.0, format!("{key}\0{pointer}\0{value}").as_bytes());
            tag.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
        };
        secrets.iter().map(|(pointer, value)| (pointer.clone(), hash(pointer, value))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn key(text: &str) -> KeyPath {
        KeyPath::parse(text).expect("a key")
    }

    #[test]
    fn secrets_are_known_by_their_names() {
        for name in
            ["s3_connection_password", "Secret", "amqp_token", "secret-access-key", "private_key", "API_KEY"]
        {
            assert!(is_secret(name), "{name}");
        }
        for name in [
            "events_amqp_routing_key",
            "key",
            "password_file",
            "token_timeout_ms",
            "s3_connection_username",
            "cert",
        ] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn secrets_are_masked_and_put_back() {
        let stored = json!({"s3": {"password": "p", "user": "u"}, "secrets": ["a", 7, true], "token": {"$ref": "/x"},
                            "passwd": "", "a/b": {"token": "t"}});
        let stored = Content::Json(stored);
        let mut masked = stored.clone();
        let secrets = masked.mask(&key("/k"));
        assert_eq!(
            secrets.keys().collect::<Vec<_>>(),
            ["/a~1b/token", "/s3/password", "/secrets/0", "/secrets/1"]
        );
        let expected = json!({"s3": {"password": "***", "user": "u"}, "secrets": ["***", "***", true],
                              "token": {"$ref": "/x"}, "passwd": "", "a/b": {"token": "***"}});
        assert_eq!(masked, Content::Json(expected));
        let mut back = masked.clone();
        back.unmask(&key("/k"), Some(&stored)).expect("all stored");
        assert_eq!(back, stored);
        let missing = masked.unmask(&key("/k"), Some(&Content::Json(json!({"s3": {"password": "p"}}))));
        assert_eq!(
            missing,
            Err(vec!["/a~1b/token".to_owned(), "/secrets/0".to_owned(), "/secrets/1".to_owned()])
        );
        let mut whole = Content::Json(json!("x"));
        assert_eq!(whole.mask(&key("/a/password")).len(), 1);
        let mut bytes = Content::Bytes(vec![0xff]);
        assert_eq!(bytes.mask(&key("/a/token"))[""], json!("ff"));
        bytes.unmask(&key("/a/token"), Some(&Content::Bytes(vec![0xff]))).expect("stored");
        assert_eq!(bytes, Content::Bytes(vec![0xff]));
    }

    #[test]
    fn declarations_decide_where_there_are_some_and_names_elsewhere() {
        let pointers = |at: &str, document: Json| -> Vec<String> {
            Content::Json(document).mask(&key(at)).into_keys().collect()
        };
        let hosts = "/ovs/vpools/g/hosts/h/config";
        let events = json!({"events_amqp_uris": [{"amqp_uri": "amqp://u:p@h", "amqp_token": "t"}]});
        assert_eq!(
            pointers(&format!("{hosts}/event_publisher"), events.clone()),
            ["/events_amqp_uris/0/amqp_token", "/events_amqp_uris/0/amqp_uri"]
        );
        assert_eq!(pointers("/elsewhere/event_publisher", events), ["/events_amqp_uris/0/amqp_token"]);

        let s3 = json!({"s3_connection_username": "u", "s3_connection_password": "p"});
        let backend = json!({"0": s3, "s3_connection_password": "q", "other_secret": "r", "x": {"0": s3}});
        assert_eq!(
            pointers(&format!("{hosts}/backend_connection_manager"), backend),
            [
                "/0/s3_connection_password",
                "/other_secret",
                "/s3_connection_password",
                "/x/0/s3_connection_password"
            ]
        );
    }

    #[test]
    fn a_rollout_shows_the_secrets_of_no_host() {
        let path = "/ovs/vpools/g/hosts/h/config/backend_connection_manager";
        let old = json!({"s3_connection_password": "old"}).to_string();
        let document = json!({
            "changes": {path: {"s3_connection_password": "new", "local_connection_path": "/x"}, "/other": null},
            "old": {path: {"host": "h", "revision": 5, "value": old}, "/other": {"host": "h", "value": "{}"}},
        });
        let at = key("/ovs/vpools/g/rollouts/3f2a9c01");
        let mut masked = Content::Json(document.clone());
        let escaped = escaped(path);
        let pointers: Vec<String> = masked.mask(&at).into_keys().collect();
        assert_eq!(
            pointers,
            [format!("/changes/{escaped}/s3_connection_password"), format!("/old/{escaped}/value")]
        );
        let shown = masked.shown();
        assert_eq!(
            shown["changes"][path],
            json!({"s3_connection_password": "***", "local_connection_path": "/x"})
        );
        assert_eq!(
            (&shown["old"][path]["value"], &shown["old"]["/other"]["value"]),
            (&json!("***"), &json!("{}"))
        );
        masked.unmask(&at, Some(&Content::Json(document.clone()))).expect("stored");
        assert_eq!(masked, Content::Json(document.clone()));
        let mut elsewhere = Content::Json(document);
        assert!(
            elsewhere.mask(&key("/ovs/vpools/g/rollouts/a/b")).len() == 1,
            "by the names of members only"
        );
    }

    #[test]
    fn no_declared_parameter_has_the_name_of_a_secret_and_is_none() {
        for section in Parameters::declarations() {
            for parameter in section.parameters {
                assert!(
                    parameter.secret || !is_secret(parameter.key),
                    "{}.{}",
                    section.section,
                    parameter.key
                );
            }
        }
    }

    #[test]
    fn a_hash_depends_on_key_place_and_value() {
        let secrets = |value: &str| BTreeMap::from([("/p".to_owned(), json!(value))]);
        let hash =
            |hasher: &Hasher, at: &str, value: &str| hasher.hashes(&key(at), &secrets(value))["/p"].clone();
        let (one, other) = (Hasher::new(b"1"), Hasher::new(b"2"));
        assert_eq!(hash(&one, "/a", "x"), hash(&one, "/a", "x"));
        let all =
            [hash(&one, "/a", "x"), hash(&other, "/a", "x"), hash(&one, "/b", "x"), hash(&one, "/a", "y")];
        assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
    }
}

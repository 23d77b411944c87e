//! Documents as files of a directory: `DIR/<section>.json`.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use cfg_schema::Documents;
use serde_json::Value as Json;

use crate::{DOCUMENT_COUNT_LIMIT, DOCUMENT_LIMIT, Error, Snapshot, url};

/// Reads of a directory until two in a row are equal.
const READ_LIMIT: usize = 8;

/// A directory of documents.
#[derive(Debug)]
pub struct FileSource {
    url: String,
    directory: PathBuf,
}

/// Section and JSON text, sorted.
type Texts = Vec<(String, Vec<u8>)>;

impl FileSource {
    /// The documents in `directory`, which `url` names.
    pub fn new(url: &str, directory: PathBuf) -> FileSource {
        FileSource { url: url.to_owned(), directory }
    }
}

impl FileSource {
    /// The directory that a `file:///DIR` URL names. Reads nothing yet.
    ///
    /// # Errors
    /// [`Error::Url`].
    pub fn open(url: &str) -> Result<FileSource, Error> {
        match url::scheme(url)? {
            ("file", rest) => Ok(FileSource::new(url, url::file_path(url, rest)?)),
            _ => Err(url::refused(url, "names no directory; use file:///DIR")),
        }
    }

    /// The URL that this source was opened with.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// All documents directly below `prefix` (`""`: the URL's own level), never half of a change: files are not
    /// replaced together, so a read counts only when a second one finds the same. A directory without documents is an
    /// empty snapshot.
    ///
    /// # Errors
    /// [`Error::Absent`], [`Error::Syntax`], [`Error::TooLarge`] and [`Error::Changing`].
    pub fn read(&self, prefix: &str) -> Result<Snapshot, Error> {
        let directory = below(&self.directory, prefix)?;
        let mut texts = read_texts(&directory)?;
        for _ in 1..READ_LIMIT {
            let again = read_texts(&directory)?;
            if again == texts {
                return snapshot(&directory, &texts);
            }
            texts = again;
        }
        Err(Error::Changing { place: directory.display().to_string() })
    }
}

fn below(directory: &Path, prefix: &str) -> Result<PathBuf, Error> {
    let prefix = prefix.trim_matches('/');
    if prefix.is_empty() {
        return Ok(directory.to_path_buf());
    }
    if Path::new(prefix).components().all(|component| matches!(component, Component::Normal(_))) {
        Ok(directory.join(prefix))
    } else {
        Err(Error::Url { url: prefix.to_owned(), problem: "a prefix cannot contain . or ..".to_owned() })
    }
}

fn read_texts(directory: &Path) -> Result<Texts, Error> {
    let mut texts = Texts::new();
    for entry in fs::read_dir(directory).map_err(|error| Error::io(&directory.display(), &error))? {
        let path = entry.map_err(|error| Error::io(&directory.display(), &error))?.path();
        let Some(section) = section_of(&path) else { continue };
        if texts.len() == DOCUMENT_COUNT_LIMIT {
            let problem = format!("holds more than {DOCUMENT_COUNT_LIMIT} documents");
            return Err(Error::TooLarge { place: directory.display().to_string(), problem });
        }
        // A file that went away between the listing and now is gone: the second read will agree.
        match read_text(&path) {
            Err(Error::Absent { .. }) => {}
            text => texts.push((section, text?)),
        }
    }
    texts.sort();
    Ok(texts)
}

/// The section that a file holds; hidden files (such as an editor's) and other names hold none.
fn section_of(path: &Path) -> Option<String> {
    let section = path.file_name()?.to_str()?.strip_suffix(".json")?;
    (!section.is_empty() && !section.starts_with('.')).then(|| section.to_owned())
}

fn read_text(path: &Path) -> Result<Vec<u8>, Error> {
    let file = File::open(path).map_err(|error| Error::io(&path.display(), &error))?;
    let mut text = Vec::new();
    file.take(DOCUMENT_LIMIT as u64 + 1)
        .read_to_end(&mut text)
        .map_err(|error| Error::io(&path.display(), &error))?;
    if text.len() > DOCUMENT_LIMIT {
        let problem = format!("is larger than {} KiB, the limit of a document", DOCUMENT_LIMIT / 1024);
        return Err(Error::TooLarge { place: path.display().to_string(), problem });
    }
    Ok(text)
}

fn snapshot(directory: &Path, texts: &Texts) -> Result<Snapshot, Error> {
    let mut fingerprint = DefaultHasher::new();
    texts.hash(&mut fingerprint);
    let mut documents = Documents::new();
    for (section, text) in texts {
        let document: Json = serde_json::from_slice(text).map_err(|error| {
            let place = directory.join(format!("{section}.json")).display().to_string();
            Error::syntax(place, &error)
        })?;
        documents.insert(section.clone(), document);
    }
    Ok(Snapshot { revision: fingerprint.finish(), cluster_id: None, documents })
}

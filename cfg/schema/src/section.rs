//! What every section can do.

use serde_json::Value as Json;

use crate::{Change, Documents, Reader, SectionDeclaration};

/// The typed values of one section; made by `sections!`.
pub trait Section: Clone + PartialEq + Default {
    /// The document's name.
    const NAME: &'static str;
    /// What is declared, parameters without effect included.
    fn declaration() -> SectionDeclaration;
    /// The values in `documents`. What is refused is reported to `reader`, and its default stands in its place.
    fn read(documents: &Documents, reader: &mut Reader) -> Self;
    /// Every value that has an effect, as a JSON object.
    fn write(&self) -> Json;
    /// The same in canonical form, without what says who the process is.
    fn canonical(&self) -> Json;
    /// Adds what is different in `new`.
    fn changes(&self, new: &Self, changes: &mut Vec<Change>);
}

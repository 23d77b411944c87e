//! Parameters: each is declared once, with its type, unit, default, range, meaning and [`Category`]; everything else
//! comes from that declaration: the typed plain struct, checking of JSON documents, the reference page, the JSON
//! schema and a sample. No I/O, no clock, and nothing of what the parameters mean to a component.
//!
//! A component declares its parameters with [`parameters!`]:
//!
//! ```
//! use cfg_schema::{ByteSize, Milliseconds, parameters};
//!
//! parameters! {
//!     /// All parameters of the kettle.
//!     pub struct Parameters;
//!
//!     /// How water is heated.
//!     section heater: Heater {
//!         /// Water that is heated at once.
//!         heater_capacity: ByteSize = ByteSize::kib(4), Restart, range 512..=1 << 20;
//!         /// Waiting time for the lid to be closed.
//!         heater_lid_timeout_ms: Milliseconds = Milliseconds(500), Dynamic, range 1..=10_000;
//!         /// Whistles when the water boils. This kettle cannot.
//!         heater_whistle: bool = true, NoEffect;
//!     }
//! }
//!
//! let documents = [("heater".to_owned(), serde_json::json!({
//!     "heater_capacity": "1MiB", "colour": "red", "heater_whistle": false,
//! }))].into();
//! let reading = Parameters::read(&documents);
//! assert_eq!(reading.unknown, ["heater.colour"]);
//! assert_eq!(reading.no_effect, ["heater.heater_whistle"]);
//! assert_eq!(reading.parameters.unwrap().heater.heater_capacity, ByteSize::mib(1));
//! ```
#![forbid(unsafe_code)]

mod canonical;
mod change;
mod declaration;
mod declare;
mod duration;
mod generate;
mod list;
mod options;
mod read;
mod report;
mod section;
mod size;
mod value;
mod words;

pub use canonical::schema_hash;
pub use change::{Change, MASK};
pub use declaration::{Category, Declaration, SectionDeclaration, lint};
pub use duration::{Microseconds, Milliseconds, Seconds};
pub use generate::{commented_sample, help_markdown, json_schema, reference_markdown, sample};
pub use list::{List, ParameterObject};
pub use options::FIRST_VERSION;
pub use read::{Documents, Place, Reader};
pub use report::{Problem, Reading};
pub use section::Section;
pub use size::{ByteSize, ParseSizeError, SizeLimit};
pub use value::{Parameter, Unranged};

/// What the macros need in the crates that use them.
#[doc(hidden)]
pub use canonical::{canonical_text, hash};
#[doc(hidden)]
pub use change::changed;
#[doc(hidden)]
pub use declaration::{declared, paragraph};
#[doc(hidden)]
pub use options::Options;
#[doc(hidden)]
pub use read::without_empty;
#[doc(hidden)]
pub use serde_json;

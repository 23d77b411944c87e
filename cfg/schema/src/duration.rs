//! Durations: plain numbers in the documents, with the unit in the parameter's name.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::Value as Json;

use crate::{Parameter, Place};

macro_rules! duration {
    ($(#[$doc:meta])* $type:ident, $name:literal, $of:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $type(pub u64);

        impl $type {
            /// As the standard library's type.
            pub const fn duration(self) -> Duration {
                Duration::$of(self.0)
            }
        }

        impl Parameter for $type {
            type Bound = u64;

            fn type_name() -> &'static str {
                $name
            }

            fn allowed(range: Option<&RangeInclusive<u64>>) -> String {
                format!("{} ({})", u64::allowed(range), $name)
            }

            fn schema(range: Option<&RangeInclusive<u64>>) -> Json {
                u64::schema(range)
            }

            fn read(json: &Json, place: &mut Place<'_>) -> Option<$type> {
                u64::read(json, place).map($type)
            }

            fn write(&self) -> Json {
                self.0.write()
            }

            fn within(&self, range: &RangeInclusive<u64>) -> bool {
                range.contains(&self.0)
            }
        }
    };
}

duration!(
    /// Microseconds; the parameter's name ends in `_usecs`.
    Microseconds,
    "microseconds",
    from_micros
);
duration!(
    /// Milliseconds; the parameter's name ends in `_ms`.
    Milliseconds,
    "milliseconds",
    from_millis
);
duration!(
    /// Seconds; the parameter's name ends in `_secs`.
    Seconds,
    "seconds",
    from_secs
);

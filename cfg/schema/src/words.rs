//! Enumerations: one word of a few.

/// Declares an enumeration that parameters can have: `words! { /// … pub enum Mode { /// … Fast = "fast" } }`.
/// Words are case sensitive.
#[macro_export]
macro_rules! words {
    (
        $(#[$meta:meta])*
        pub enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $word:literal),+ $(,)? }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_meta])* $variant),+ }

        impl $name {
            /// The word in documents.
            pub const fn word(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }
        }

        impl $crate::Parameter for $name {
            type Bound = $crate::Unranged;

            fn type_name() -> &'static str {
                "enum"
            }

            fn allowed(_: Option<&::std::ops::RangeInclusive<$crate::Unranged>>) -> String {
                format!("one of {}", [$($word),+].join(", "))
            }

            fn schema(_: Option<&::std::ops::RangeInclusive<$crate::Unranged>>) -> $crate::serde_json::Value {
                $crate::serde_json::json!({"enum": [$($word),+]})
            }

            fn read(json: &$crate::serde_json::Value, place: &mut $crate::Place<'_>) -> Option<$name> {
                match json.as_str() {
                    $(Some($word) => Some($name::$variant),)+
                    _ => {
                        place.refuse(json, format!("must be {}", <$name as $crate::Parameter>::allowed(None)));
                        None
                    }
                }
            }

            fn write(&self) -> $crate::serde_json::Value {
                $crate::serde_json::Value::from(self.word())
            }

            fn within(&self, range: &::std::ops::RangeInclusive<$crate::Unranged>) -> bool {
                match *range.start() {}
            }
        }
    };
}

//! The macros that declare parameters.

/// Declares parameters: the sections, as in [`sections!`](crate::sections), and the struct that holds them all.
///
/// The [crate] documentation has an example. Sections that are declared elsewhere are held by the short form
/// `pub struct Parameters { heater: Heater, kettle: Kettle }`. The holder gets `declarations()`, `read(documents)`,
/// `documents()`, `canonical()`, `config_hash()` and `changes(new)`.
#[macro_export]
macro_rules! parameters {
    (
        $(#[$root_meta:meta])*
        pub struct $root:ident;
        $(objects { $($objects:tt)* })?
        $(
            $(#[doc = $doc:literal])+
            section $section:ident: $struct:ident $(, numbered $numbered:literal)? { $($body:tt)* }
        )+
    ) => {
        $crate::sections! {
            $(objects { $($objects)* })?
            $($(#[doc = $doc])+ section $section: $struct $(, numbered $numbered)? { $($body)* })+
        }
        $crate::parameters! { $(#[$root_meta])* pub struct $root { $($section: $struct),+ } }
    };
    (
        $(#[$root_meta:meta])*
        pub struct $root:ident { $($section:ident: $struct:ty),+ $(,)? }
    ) => {
        $(#[$root_meta])*
        #[derive(Clone, Debug, PartialEq, Default)]
        pub struct $root {
            $(#[doc = concat!("Section `", stringify!($section), "`.")] pub $section: $struct,)+
        }

        impl $root {
            /// All sections with their parameters, in the order of declaration.
            pub fn declarations() -> Vec<$crate::SectionDeclaration> {
                vec![$(<$struct as $crate::Section>::declaration()),+]
            }

            /// Typed values from `documents`.
            pub fn read(documents: &$crate::Documents) -> $crate::Reading<$root> {
                let mut reader = $crate::Reader::default();
                let parameters = $root { $($section: $crate::Section::read(documents, &mut reader),)+ };
                reader.other_sections(documents, &[$(<$struct as $crate::Section>::NAME),+]);
                reader.finish(parameters, Self::declarations)
            }

            /// Every value that has an effect, defaults included, one spelling for each: reading it back gives an
            /// equal struct. Sections without such values are left out.
            pub fn documents(&self) -> $crate::Documents {
                let sections = [$((<$struct as $crate::Section>::NAME, $crate::Section::write(&self.$section))),+];
                $crate::without_empty(sections)
            }

            /// The canonical form: one JSON text for equal values, and only for those. Every value that has an effect
            /// is in it, but those that say who the process is.
            pub fn canonical(&self) -> String {
                let sections =
                    [$((<$struct as $crate::Section>::NAME, $crate::Section::canonical(&self.$section))),+];
                $crate::canonical_text(&$crate::without_empty(sections).into_iter().collect())
            }

            /// A hash of the canonical form: 32 hexadecimal digits.
            pub fn config_hash(&self) -> String {
                $crate::hash(&self.canonical())
            }

            /// What is different in `new`, in the order of declaration. What has no effect does not change.
            pub fn changes(&self, new: &$root) -> Vec<$crate::Change> {
                let mut changes = Vec::new();
                $($crate::Section::changes(&self.$section, &new.$section, &mut changes);)+
                changes
            }
        }
    };
}

/// Declares sections, each a struct of its typed values, and before them the kinds of objects in their lists (in a
/// block `objects { … }`).
///
/// A parameter is `key: Type = default, Category, options…;` with its meaning as doc comment. Options are `unit "…"`,
/// `range a..=b`, `since "version"`, `secret` (shown as `***`) and `identity` (says who the process is, and is no part
/// of the hash of its configuration).
///
/// With the category `NoEffect` a parameter is known, its values are checked for their type, and nothing is stored: it
/// has no field. Its range is documentation, and it may have no default. To give it an effect, write another category.
///
/// A field of an object has no category, and without a default it is required. A section that is `numbered "…"` may
/// also hold objects `0`, `1`, … with the same keys, which have no effect.
#[macro_export]
macro_rules! sections {
    (
        $(objects {
            $(
                $(#[doc = $object_doc:literal])+
                $object:ident {
                    $(
                        $(#[doc = $field_doc:literal])+
                        $field:ident: $field_type:ty $(= $field_default:expr)? $(, $option:ident $($value:expr)?)*;
                    )+
                }
            )+
        })?
        $(
            $(#[doc = $doc:literal])+
            section $section:ident: $struct:ident $(, numbered $numbered:literal)? { $($body:tt)* }
        )*
    ) => {
        $($(
            $crate::parameter_object! {
                $(#[doc = $object_doc])+
                $object {
                    $(
                        $(#[doc = $field_doc])+
                        $field: $field_type, [$($field_default)?], [$($option $($value)?,)*];
                    )+
                }
            }
        )+)?
        $($crate::section! { @sort { [$($doc),+] $section $struct [$($numbered)?] } [] [] []; $($body)* })*
    };
}

/// Sorts the parameters of a section into those with an effect, those without, and all, then makes its struct.
#[doc(hidden)]
#[macro_export]
macro_rules! section {
    (
        @sort $head:tt [$($active:tt)*] [$($inert:tt)*] [$($all:tt)*];
        $(#[doc = $doc:literal])+
        $key:ident: $type:ty $(= $default:expr)?, NoEffect $(, $option:ident $($value:expr)?)*;
        $($rest:tt)*
    ) => {
        $crate::section! {
            @sort $head [$($active)*]
            [$($inert)* { $key [$type] }]
            [$($all)* { [$($doc),+] $key [$type] [$($default)?] NoEffect [$($option $($value)?,)*] }];
            $($rest)*
        }
    };
    (
        @sort $head:tt [$($active:tt)*] [$($inert:tt)*] [$($all:tt)*];
        $(#[doc = $doc:literal])+
        $key:ident: $type:ty = $default:expr, $category:ident $(, $option:ident $($value:expr)?)*;
        $($rest:tt)*
    ) => {
        $crate::section! {
            @sort $head
            [$($active)* { [$($doc),+] $key [$type] [$default] $category [$($option $($value)?,)*] }]
            [$($inert)*]
            [$($all)* { [$($doc),+] $key [$type] [$default] $category [$($option $($value)?,)*] }];
            $($rest)*
        }
    };
    (
        @sort { [$($section_doc:literal),+] $section:ident $struct:ident [$($numbered:literal)?] }
        [$({ [$($doc:literal),+] $key:ident [$type:ty] [$default:expr] $category:ident [$($option:tt)*] })*]
        [$({ $inert_key:ident [$inert_type:ty] })*]
        [$({
            [$($any_doc:literal),+] $any_key:ident [$any_type:ty] [$($any_default:expr)?] $any_category:ident
            [$($any_option:tt)*]
        })*];
    ) => {
        $(#[doc = $section_doc])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $struct { $($(#[doc = $doc])+ pub $key: $type,)* }

        impl Default for $struct {
            fn default() -> Self {
                $struct { $($key: $default,)* }
            }
        }

        impl $crate::Section for $struct {
            const NAME: &'static str = stringify!($section);

            fn declaration() -> $crate::SectionDeclaration {
                $crate::SectionDeclaration {
                    section: Self::NAME,
                    meaning: $crate::paragraph(&[$($section_doc),+]),
                    parameters: vec![$($crate::declared::<$any_type>(
                        stringify!($any_key),
                        $crate::paragraph(&[$($any_doc),+]),
                        $crate::optional!($($any_default)?),
                        $crate::options!($any_type; $($any_option)*),
                        Some($crate::Category::$any_category),
                    )),*],
                    numbered: $crate::optional!($($numbered)?),
                }
            }

            fn read(documents: &$crate::Documents, reader: &mut $crate::Reader) -> Self {
                let object = reader.section(documents, Self::NAME);
                let mut place = reader.place(Self::NAME);
                let numbered: Option<&str> = $crate::optional!($($numbered)?);
                let keys = [$(stringify!($any_key)),*];
                place.undeclared(object, &keys, numbered.is_some());
                let values = $struct {
                    $($key: place.field::<$type>(object, stringify!($key), $crate::options!($type; $($option)*).range)
                        .unwrap_or_else(|| $default),)*
                };
                $(place.without_effect::<$inert_type>(object, stringify!($inert_key));)*
                if numbered.is_some() {
                    place.numbered(object, |object, place| {
                        $(place.field::<$any_type>(Some(object), stringify!($any_key), None);)*
                        place.undeclared(Some(object), &keys, false);
                    });
                }
                values
            }

            fn write(&self) -> $crate::serde_json::Value {
                #[allow(unused_mut, reason = "there may be no values")]
                let mut object = $crate::serde_json::Map::new();
                $(object.insert(stringify!($key).to_owned(), <$type as $crate::Parameter>::write(&self.$key));)*
                $crate::serde_json::Value::Object(object)
            }

            fn canonical(&self) -> $crate::serde_json::Value {
                #[allow(unused_mut, reason = "there may be no values")]
                let mut object = $crate::serde_json::Map::new();
                $(if !$crate::options!($type; $($option)*).identity {
                    object.insert(stringify!($key).to_owned(), <$type as $crate::Parameter>::canonical(&self.$key));
                })*
                $crate::serde_json::Value::Object(object)
            }

            #[allow(unused_variables, reason = "there may be no values")]
            fn changes(&self, new: &Self, changes: &mut Vec<$crate::Change>) {
                $(if self.$key != new.$key {
                    changes.push($crate::changed::<$type>(
                        (Self::NAME, stringify!($key)),
                        $crate::Category::$category,
                        $crate::options!($type; $($option)*).secret,
                        &self.$key,
                        &new.$key,
                    ));
                })*
            }
        }
    };
}

/// The struct of one kind of object in list parameters.
#[doc(hidden)]
#[macro_export]
macro_rules! parameter_object {
    (
        $(#[doc = $object_doc:literal])+
        $object:ident {
            $(
                $(#[doc = $doc:literal])+
                $field:ident: $type:ty, [$($default:expr)?], [$($option:tt)*];
            )+
        }
    ) => {
        $(#[doc = $object_doc])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $object { $($(#[doc = $doc])+ pub $field: $type,)+ }

        impl $crate::ParameterObject for $object {
            fn fields() -> Vec<$crate::Declaration> {
                vec![$($crate::declared::<$type>(
                    stringify!($field),
                    $crate::paragraph(&[$($doc),+]),
                    $crate::optional!($($default)?),
                    $crate::options!($type; $($option)*),
                    None,
                )),+]
            }

            fn read(
                object: &$crate::serde_json::Map<String, $crate::serde_json::Value>,
                place: &mut $crate::Place<'_>,
            ) -> Option<$object> {
                place.undeclared(Some(object), &[$(stringify!($field)),+], false);
                // All fields are read before any missing one ends it: every problem is reported at once.
                $(let $field = $crate::read_or!(
                    place, object, $field, $type, [$($default)?], $crate::options!($type; $($option)*).range
                );)+
                Some($object { $($field: $field?,)+ })
            }

            fn write(&self) -> $crate::serde_json::Value {
                let mut object = $crate::serde_json::Map::new();
                $(object.insert(stringify!($field).to_owned(), <$type as $crate::Parameter>::write(&self.$field));)+
                $crate::serde_json::Value::Object(object)
            }

            fn canonical(&self) -> $crate::serde_json::Value {
                let mut object = $crate::serde_json::Map::new();
                $(object.insert(stringify!($field).to_owned(), <$type as $crate::Parameter>::canonical(&self.$field));)+
                $crate::serde_json::Value::Object(object)
            }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! read_or {
    ($place:ident, $object:ident, $field:ident, $type:ty, [], $range:expr) => {
        $place.required::<$type>(Some($object), stringify!($field), $range)
    };
    ($place:ident, $object:ident, $field:ident, $type:ty, [$default:expr], $range:expr) => {
        match $object.contains_key(stringify!($field)) {
            true => $place.field::<$type>(Some($object), stringify!($field), $range),
            false => Some($default),
        }
    };
}

//! Bytes of the wire in a form that can be read.

/// Hexadecimal numbers of whole bytes, texts in single quotes (without blanks), and `00*124` for repetition,
/// separated by white space.
pub(crate) fn wire(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in text.split_whitespace() {
        if let Some(quoted) = word.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
            bytes.extend_from_slice(quoted.replace('_', " ").as_bytes());
            continue;
        }
        let (digits, times) = match word.split_once('*') {
            Some((digits, times)) => (digits, times.parse().expect("a number of repetitions")),
            None => (word, 1),
        };
        assert!(digits.len() % 2 == 0, "{word} is not a number of whole bytes");
        let number: Vec<u8> = (0..digits.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal"))
            .collect();
        bytes.extend(std::iter::repeat_n(number, times).flatten());
    }
    bytes
}

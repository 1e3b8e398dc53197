//! Helpers of the tests that compare with values of other implementations.

/// Reads hexadecimal digits.
pub(super) fn unhex<const N: usize>(text: &str) -> [u8; N] {
    assert_eq!(text.len(), 2 * N);
    std::array::from_fn(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("hex"))
}

/// The bytes 0, 1, 2 … 31.
pub(super) fn counting_seed() -> [u8; 32] {
    std::array::from_fn(|i| u8::try_from(i).expect("32 fits"))
}

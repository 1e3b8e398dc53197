//! Canonical channel names and their hash.

use xxhash_rust::xxh3::xxh3_64;

use super::IdentityError;

/// The 64-bit name of a channel in tokens and on the wire: xxh3-64 of its canonical name.
///
/// Canonical: 1–255 of `a-z 0-9 - _ . /`, no leading, trailing or double `/`, no segment `.` or `..`.
pub fn channel_hash(name: &str) -> Result<u64, IdentityError> {
    check_channel_name(name)?;
    Ok(xxh3_64(name.as_bytes()))
}

/// The 64-bit name of a queue group of a channel in tokens and on the wire: xxh3-64 of `<channel>#<group>`, two canonical
/// names. `#` occurs in neither, so no channel and no other group has the same text.
pub fn queue_group_hash(channel: &str, group: &str) -> Result<u64, IdentityError> {
    check_channel_name(channel)?;
    check_name(group).map_err(IdentityError::InvalidQueueGroup)?;
    Ok(xxh3_64(format!("{channel}#{group}").as_bytes()))
}

/// Checks that a channel name is canonical, so that one channel has one name.
pub fn check_channel_name(name: &str) -> Result<(), IdentityError> {
    check_name(name).map_err(IdentityError::InvalidChannelName)
}

fn check_name(name: &str) -> Result<(), &'static str> {
    let problem = if name.is_empty() {
        "it is empty"
    } else if name.len() > 255 {
        "it is longer than 255 bytes"
    } else if !name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'/')) {
        "only a-z 0-9 - _ . / are allowed"
    } else if name.split('/').any(str::is_empty) {
        "a '/' leads, trails or is doubled"
    } else if name.split('/').any(|segment| matches!(segment, "." | "..")) {
        "a segment is '.' or '..'"
    } else {
        return Ok(());
    };
    Err(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected: Python's xxhash.
    #[test]
    fn channel_hash_matches_vector_of_another_implementation() {
        assert_eq!(channel_hash("telemetry/rack-1"), Ok(0xf51a_6716_fe78_7b6c));
    }

    // Expected: Python's xxhash.
    #[test]
    fn queue_group_hash_matches_vector_of_another_implementation() {
        assert_eq!(queue_group_hash("telemetry/rack-1", "workers"), Ok(0x626a_c93d_2fac_0ef6));
        assert_eq!(
            queue_group_hash("a", "b#c"),
            Err(IdentityError::InvalidQueueGroup("only a-z 0-9 - _ . / are allowed"))
        );
        assert!(matches!(queue_group_hash("a#b", "c"), Err(IdentityError::InvalidChannelName(_))));
    }

    #[test]
    fn canonical_names_pass() {
        for name in ["a", "a/b/c", "v1.2", "a_b-c.d", ".hidden", "...", "a/..b", &"x".repeat(255)] {
            assert_eq!(check_channel_name(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn other_names_are_refused() {
        let long = "x".repeat(256);
        for name in ["", "/", "/a", "a/", "a//b", ".", "..", "a/./b", "a/..", "A", "a b", "ä", "a\0", &long] {
            assert!(matches!(channel_hash(name), Err(IdentityError::InvalidChannelName(_))), "{name}");
        }
    }
}

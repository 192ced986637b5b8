//! The wire format of protocol buffers, as far as a profile needs it.

/// One field of a message as it stands on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 2: a string, a message, or packed numbers.
    Bytes(&'a [u8]),
    /// Wire types 1 and 5, which no field of a profile uses.
    Fixed,
}

/// Calls `each` with the number and the value of every field of a message, in order.
pub(crate) fn fields<'a>(
    mut message: &'a [u8],
    mut each: impl FnMut(u64, Value<'a>) -> Result<(), String>,
) -> Result<(), String> {
    while !message.is_empty() {
        let key = varint(&mut message)?;
        let value = match key & 7 {
            0 => Value::Varint(varint(&mut message)?),
            1 => take(&mut message, 8).map(|_| Value::Fixed)?,
            2 => {
                let length = varint(&mut message)?;
                Value::Bytes(take(&mut message, length)?)
            }
            5 => take(&mut message, 4).map(|_| Value::Fixed)?,
            other => return Err(format!("wire type {other} is not in use")),
        };
        each(key >> 3, value)?;
    }
    Ok(())
}

impl<'a> Value<'a> {
    /// A number that stands alone.
    pub(crate) fn number(self) -> Result<u64, String> {
        match self {
            Self::Varint(number) => Ok(number),
            other => Err(format!("a number was expected, not {other:?}")),
        }
    }

    /// A number that stands alone, signed in two's complement.
    pub(crate) fn signed(self) -> Result<i64, String> {
        self.number().map(u64::cast_signed)
    }

    /// Repeated numbers, packed or not, added to `numbers`.
    pub(crate) fn numbers(self, numbers: &mut Vec<u64>) -> Result<(), String> {
        match self {
            Self::Varint(number) => numbers.push(number),
            Self::Bytes(mut packed) => {
                while !packed.is_empty() {
                    numbers.push(varint(&mut packed)?);
                }
            }
            Self::Fixed => return Err("a varint was expected, not a fixed number".into()),
        }
        Ok(())
    }

    /// A nested message or the bytes of a string.
    pub(crate) fn bytes(self) -> Result<&'a [u8], String> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            other => Err(format!("bytes were expected, not {other:?}")),
        }
    }
}

fn take<'a>(message: &mut &'a [u8], length: u64) -> Result<&'a [u8], String> {
    let length = usize::try_from(length).map_err(|_| "a length is out of range")?;
    let (taken, rest) = message.split_at_checked(length).ok_or("a field is cut short")?;
    *message = rest;
    Ok(taken)
}

fn varint(message: &mut &[u8]) -> Result<u64, String> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(message, 1)?[0];
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err("a varint has more than ten bytes".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(message: &[u8], expected: Result<&[(u64, Value<'_>)], &str>) {
        let mut found = Vec::new();
        let result = fields(message, |field, value| {
            found.push((field, value));
            Ok(())
        });
        match expected {
            Ok(expected) => {
                assert_eq!(result, Ok(()));
                assert_eq!(found, expected);
            }
            Err(expected) => assert_eq!(result, Err(expected.to_owned())),
        }
    }

    #[test]
    fn fields_are_read_in_order() {
        check(&[], Ok(&[]));
        check(&[0x08, 0x96, 0x01], Ok(&[(1, Value::Varint(150))]));
        check(
            &[0x12, 0x02, b'h', b'i', 0x18, 0x01],
            Ok(&[(2, Value::Bytes(b"hi")), (3, Value::Varint(1))]),
        );
        check(&[0x0d, 0, 0, 0, 0], Ok(&[(1, Value::Fixed)]));
    }

    #[test]
    fn broken_messages_are_refused() {
        check(&[0x12, 0x05, b'h'], Err("a field is cut short"));
        check(&[0x08], Err("a field is cut short"));
        check(&[0x0b], Err("wire type 3 is not in use"));
        check(&[0xff; 11], Err("a varint has more than ten bytes"));
    }

    #[test]
    fn repeated_numbers_may_be_packed() {
        let mut numbers = Vec::new();
        Value::Bytes(&[1, 0x96, 1]).numbers(&mut numbers).unwrap();
        Value::Varint(3).numbers(&mut numbers).unwrap();
        assert_eq!(numbers, [1, 150, 3]);
    }

    #[test]
    fn negative_numbers_take_ten_bytes() {
        let minus_one = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        let mut message = vec![0x08];
        message.extend(minus_one);
        let mut found = None;
        fields(&message, |_, value| {
            found = Some(value.signed()?);
            Ok(())
        })
        .unwrap();
        assert_eq!(found, Some(-1));
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Generic netlink (linux/genetlink.h): families are found by name.

use super::wire::{attributes, Builder, Malformed, Message, ACK};
use super::{Connection, Error};

const CONTROLLER: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
const ENOENT: i32 = 2;
/// `genlmsghdr`.
const HEADER: usize = 4;

/// A generic netlink family of this kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    id: u16,
    version: u8,
}

impl Family {
    /// Asks the kernel for the family's number.
    pub fn resolve(connection: &mut Connection, name: &str, version: u8) -> Result<Self, Error> {
        let request =
            Builder::new(CONTROLLER, ACK).fixed(&[GET_FAMILY, 1, 0, 0]).attribute_text(FAMILY_NAME, name);
        let mut id = None;
        let answer = connection.exchange(request, |message| {
            for attribute in Family::attributes(message)? {
                let attribute = attribute?;
                if attribute.kind == FAMILY_ID {
                    id = Some(attribute.u16()?);
                }
            }
            Ok(())
        });
        match answer {
            Err(error) if error.errno() == Some(ENOENT) => return Err(Error::NoFamily(name.to_owned())),
            answer => answer?,
        };
        let id = id.ok_or(Malformed("family without a number"))?;
        Ok(Family { id, version })
    }

    /// A request to the family; add its attributes and hand it to [`Connection::exchange`] or [`Connection::order`].
    pub fn request(&self, command: u8, flags: u16) -> Builder {
        Builder::new(self.id, flags).fixed(&[command, self.version, 0, 0])
    }

    /// The attributes of an answer of a generic netlink family.
    pub fn attributes<'a>(
        message: &Message<'a>,
    ) -> Result<impl Iterator<Item = Result<super::wire::Attribute<'a>, Malformed>>, Malformed> {
        message.payload.get(HEADER..).map(attributes).ok_or(Malformed("answer without genlmsghdr"))
    }
}

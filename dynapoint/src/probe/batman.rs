// SPDX-License-Identifier: Apache-2.0
//! The quality of the best gateway of a batman-adv mesh, asked from the kernel (linux/batman_adv.h).

use openwrt::netlink::{wire, Connection, Error, Family};

use super::run::Context;
use crate::verdict::Outcome;

const GET_GATEWAYS: u8 = 10;
const MESH_IFINDEX: u16 = 3;
const FLAG_BEST: u16 = 22;
const TQ: u16 = 25;
const THROUGHPUT: u16 = 26;

/// Compares the best gateway with the limits. Between the two the last result stays, marked as weak.
pub(super) fn check(device: &str, lower: f64, upper: f64, context: &Context) -> Result<Outcome, Outcome> {
    let index = match context.network.borrow().link(device) {
        Some(link) => link.index,
        None => return Err(Outcome::Failed(format!("there is no device {device}"))),
    };
    let best = best_gateway(index).map_err(|error| Outcome::Failed(error.to_string()))?;
    judge(best, lower, upper, context.last.as_ref())
}

/// The quality of the chosen gateway: TQ (0–255) with BATMAN_IV, Mbit/s with BATMAN_V.
fn best_gateway(mesh: u32) -> Result<Option<f64>, Error> {
    let mut connection = Connection::generic()?;
    let family = Family::resolve(&mut connection, "batadv", 1)?;
    let request = family.request(GET_GATEWAYS, wire::DUMP).attribute_u32(MESH_IFINDEX, mesh);
    let mut best = None;
    connection.exchange(request, |message| {
        best = chosen(message)?.or(best);
        Ok(())
    })?;
    Ok(best)
}

/// The quality in an answer to `BATADV_CMD_GET_GATEWAYS`, where it is about the gateway the mesh has chosen.
fn chosen(message: &wire::Message<'_>) -> Result<Option<f64>, Error> {
    let (mut chosen, mut quality) = (false, None);
    for attribute in Family::attributes(message)? {
        let attribute = attribute?;
        match attribute.kind {
            FLAG_BEST => chosen = true,
            TQ => quality = Some(f64::from(attribute.u8()?)),
            // In units of 100 kbit/s.
            THROUGHPUT => quality = Some(f64::from(attribute.u32()?) / 10.0),
            _ => {}
        }
    }
    Ok(quality.filter(|_| chosen))
}

fn judge(best: Option<f64>, lower: f64, upper: f64, last: Option<&Outcome>) -> Result<Outcome, Outcome> {
    let Some(quality) = best else { return Err(Outcome::Failed("no gateway in the mesh".to_owned())) };
    let text = format!("quality {quality} of the best gateway, limits {lower} and {upper}");
    match () {
        () if quality >= upper => Ok(Outcome::Passed),
        () if quality < lower => Err(Outcome::Failed(text)),
        () if matches!(last, Some(Outcome::Failed(_))) => Err(Outcome::Failed(text)),
        () => Ok(Outcome::Weak(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One gateway as the kernel tells it: genlmsghdr, an address, a quality, and whether it is the chosen one.
    fn gateway(quality: (u16, &[u8]), best: bool) -> Vec<u8> {
        let mut payload = vec![GET_GATEWAYS, 1, 0, 0];
        let mut attribute = |kind: u16, data: &[u8]| {
            payload.extend(u16::try_from(4 + data.len()).unwrap().to_ne_bytes());
            payload.extend(kind.to_ne_bytes());
            payload.extend(data);
            payload.resize(payload.len().next_multiple_of(4), 0);
        };
        attribute(9, &[2, 0, 0, 0, 0, 1]);
        attribute(quality.0, quality.1);
        if best {
            attribute(FLAG_BEST, &[]);
        }
        payload
    }

    #[test]
    fn the_quality_is_that_of_the_chosen_gateway() {
        let read = |payload: &[u8]| chosen(&wire::Message { kind: 30, flags: 2, sequence: 1, payload });
        assert_eq!(read(&gateway((TQ, &[201]), true)).unwrap(), Some(201.0));
        assert_eq!(read(&gateway((TQ, &[201]), false)).unwrap(), None);
        assert_eq!(read(&gateway((THROUGHPUT, &125_u32.to_ne_bytes()), true)).unwrap(), Some(12.5));
        let whole = gateway((TQ, &[201]), true);
        for length in 0..whole.len() {
            // Cut anywhere it is an error or no gateway, never a wrong quality.
            assert!(matches!(read(&whole[..length]), Err(_) | Ok(None)), "{length}");
        }
        assert!(read(&gateway((THROUGHPUT, &[1, 2]), true)).is_err());
    }

    #[test]
    fn between_the_limits_the_last_result_stays() {
        let word = |quality, last: Option<Outcome>| {
            judge(quality, 35.0, 45.0, last.as_ref()).unwrap_or_else(|outcome| outcome).word()
        };
        assert_eq!(word(Some(50.0), None), "passed");
        assert_eq!(word(Some(45.0), None), "passed");
        assert_eq!(word(Some(40.0), Some(Outcome::Passed)), "weak");
        assert_eq!(word(Some(40.0), None), "weak");
        assert_eq!(word(Some(34.9), Some(Outcome::Passed)), "failed");
        assert_eq!(word(Some(40.0), Some(Outcome::Failed(String::new()))), "failed");
        assert_eq!(word(None, None), "failed");
    }
}

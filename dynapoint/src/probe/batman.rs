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

/// The quality of the best gateway: TQ (0–255) with BATMAN_IV, Mbit/s with BATMAN_V.
///
/// Only a node with `gw_mode client` chooses one. On any other the mesh still tells its gateways, and the best of them is
/// the one that counts here.
fn best_gateway(mesh: u32) -> Result<Option<f64>, Error> {
    let mut connection = Connection::generic()?;
    let family = Family::resolve(&mut connection, "batadv", 1)?;
    let request = family.request(GET_GATEWAYS, wire::DUMP).attribute_u32(MESH_IFINDEX, mesh);
    let mut gateways = Vec::new();
    connection.exchange(request, |message| {
        gateways.extend(gateway(message)?);
        Ok(())
    })?;
    Ok(best(&gateways))
}

/// The chosen one, or else the one of the highest quality.
fn best(gateways: &[(bool, f64)]) -> Option<f64> {
    gateways
        .iter()
        .copied()
        .reduce(|best, other| if other > best { other } else { best })
        .map(|(_, quality)| quality)
}

/// Whether a gateway in an answer to `BATADV_CMD_GET_GATEWAYS` is the one the mesh has chosen, and its quality.
pub fn gateway(message: &wire::Message<'_>) -> Result<Option<(bool, f64)>, Error> {
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
    Ok(quality.map(|quality| (chosen, quality)))
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
    fn told(quality: (u16, &[u8]), best: bool) -> Vec<u8> {
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
    fn a_gateway_is_read_with_its_quality() {
        let read = |payload: &[u8]| gateway(&wire::Message { kind: 30, flags: 2, sequence: 1, payload });
        assert_eq!(read(&told((TQ, &[201]), true)).unwrap(), Some((true, 201.0)));
        assert_eq!(read(&told((TQ, &[201]), false)).unwrap(), Some((false, 201.0)));
        assert_eq!(read(&told((THROUGHPUT, &125_u32.to_ne_bytes()), true)).unwrap(), Some((true, 12.5)));
        let whole = told((TQ, &[201]), true);
        for length in 0..whole.len() {
            // Cut anywhere it is an error, no gateway or not the chosen one, never a wrong quality.
            assert!(matches!(read(&whole[..length]), Err(_) | Ok(None | Some((false, 201.0)))), "{length}");
        }
        assert!(read(&told((THROUGHPUT, &[1, 2]), true)).is_err());
    }

    #[test]
    fn the_chosen_gateway_counts_and_without_one_the_best() {
        assert_eq!(best(&[(false, 250.0), (true, 90.0), (false, 120.0)]), Some(90.0));
        assert_eq!(best(&[(false, 30.0), (false, 120.0), (false, 90.0)]), Some(120.0));
        assert_eq!(best(&[]), None);
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

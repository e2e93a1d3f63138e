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
        if chosen {
            best = quality;
        }
        Ok(())
    })?;
    Ok(best)
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

// SPDX-License-Identifier: Apache-2.0
//! Home Assistant discovery: voltage, frequency, THD and the traffic light appear by themselves
//! (<https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery>).

use crate::config::Device;
use crate::lights::{self, word, LightRow};
use power_quality::compliance::Characteristic;
use serde_json::{json, Map, Value};

/// Where Home Assistant looks, unless it was told otherwise.
const PREFIX: &str = "homeassistant";

/// Topic of the lights and of the ten-minute THD, beside that of the telemetry.
#[must_use]
pub fn lights_topic(topic: &str) -> String {
    format!("{topic}/lights")
}

/// Topic and payload of each sensor's description, to be retained. Voltage and frequency come out of the object
/// `t5060` and are left out where that is not sent.
#[must_use]
pub fn descriptions(topic: &str, device: &Device, t5060: bool) -> Vec<(String, String)> {
    let node: String =
        device.uuid.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    let lights = lights_topic(topic);
    let measured = |class, unit| json!({ "device_class": class, "unit_of_measurement": unit, "state_class": "measurement" });
    let mut sensors = Vec::new();
    if t5060 {
        sensors.push((
            "voltage",
            "Voltage",
            topic,
            "{{ value_json.t5060.u }}",
            measured(Some("voltage"), "V"),
        ));
        sensors.push((
            "frequency",
            "Frequency",
            topic,
            "{{ value_json.t5060.f }}",
            measured(Some("frequency"), "Hz"),
        ));
    }
    sensors.push(("thd", "THD", &lights, "{{ value_json.thd_percent }}", measured(None, "%")));
    let options = json!({ "device_class": "enum", "options": ["green", "yellow", "red", "grey"] });
    sensors.push(("light", "EN 50160", &lights, "{{ value_json.worst }}", options));
    sensors
        .into_iter()
        .map(|(object, name, state_topic, template, mut description)| {
            let common = json!({
                "name": name,
                "unique_id": format!("powquty_{node}_{object}"),
                "state_topic": state_topic,
                "value_template": template,
                "availability_topic": format!("{topic}/status"),
                "device": {
                    "identifiers": [format!("powquty_{node}")],
                    "name": device.uuid,
                    "model": "power quality monitor",
                    "sw_version": env!("CARGO_PKG_VERSION"),
                },
            });
            if let (Some(all), Value::Object(common)) = (description.as_object_mut(), common) {
                all.extend(common);
                all.retain(|_, value| !value.is_null());
            }
            (format!("{PREFIX}/sensor/powquty_{node}/{object}/config"), description.to_string())
        })
        .collect()
}

/// The lights as one object: the worst, each, and the last ten-minute THD.
#[must_use]
pub fn state(rows: &[LightRow]) -> String {
    let mut state = Map::new();
    state.insert("worst".to_owned(), word(lights::worst(rows.iter().map(|row| row.light))).into());
    let thd = rows.iter().find(|row| row.characteristic == Characteristic::Thd).and_then(|row| row.value);
    state.insert("thd_percent".to_owned(), json!(thd));
    for row in rows {
        state.insert(row.characteristic.to_string(), word(row.light).into());
    }
    Value::Object(state).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Position;
    use crate::records::collect::Collector;
    use power_quality::{Config, NominalFrequency};

    #[test]
    fn each_sensor_finds_its_value() {
        let device = Device {
            uuid: "my scope/1".to_owned(),
            host: "router".to_owned(),
            position: Position::default(),
        };
        let sensors = descriptions("wesense/scope", &device, true);
        let topics: Vec<&str> = sensors.iter().map(|(topic, _)| topic.as_str()).collect();
        assert_eq!(topics[0], "homeassistant/sensor/powquty_my_scope_1/voltage/config");
        assert_eq!(topics.len(), 4);
        let collector = Collector::new(&Config::new(10_240.0, 230.0, NominalFrequency::Hz50), 5.0);
        let rows = lights::rows(&collector.verdict(), collector.last());
        let state: Value = serde_json::from_str(&state(&rows)).unwrap();
        assert_eq!((&state["worst"], &state["h25"]), (&json!("grey"), &json!("grey")));
        for (topic, payload) in &sensors {
            let sensor: Value = serde_json::from_str(payload).unwrap();
            assert_eq!(sensor["availability_topic"], "wesense/scope/status");
            assert!(sensor["unique_id"].as_str().unwrap().starts_with("powquty_my_scope_1_"), "{topic}");
            if sensor["state_topic"] == "wesense/scope/lights" {
                let key = sensor["value_template"].as_str().unwrap().trim_matches(['{', '}', ' ']);
                let key = key.strip_prefix("value_json.").unwrap();
                assert!(state.as_object().unwrap().contains_key(key), "{key}");
            }
        }
        assert_eq!(descriptions("t", &device, false).len(), 2);
    }
}

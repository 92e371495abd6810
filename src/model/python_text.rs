//! How Python writes values and dates, for chat templates: `str()`, `json.dumps` and `strftime`.

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind};

/// A moment on a calendar, for templates that show the date.
///
/// It is handed in and kept, so that a conversation that is taken up again renders as it did before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CivilTime {
    /// Year of the Gregorian calendar.
    pub year: i64,
    /// Month, 1 ..= 12.
    pub month: u8,
    /// Day of the month, 1 ..= 31.
    pub day: u8,
    /// Hour, 0 .. 24.
    pub hour: u8,
    /// Minute, 0 .. 60.
    pub minute: u8,
    /// Second, 0 .. 60.
    pub second: u8,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

impl CivilTime {
    /// The moment `seconds` after 1970-01-01 00:00, in UTC.
    pub fn from_unix(seconds: i64) -> Self {
        let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        // Days to calendar after H. Hinnant, "chrono-compatible low-level date algorithms", civil_from_days: eras of
        // 400 years, years that begin in March.
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let month = (month_from_march + 2) % 12 + 1;
        let small = |value: i64| u8::try_from(value).unwrap_or(u8::MAX);
        Self {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month: small(month),
            day: small(day_of_year - (153 * month_from_march + 2) / 5 + 1),
            hour: small(second / 3600),
            minute: small(second / 60 % 60),
            second: small(second % 60),
        }
    }

    /// The present, in UTC.
    pub fn now() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self::from_unix(since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX / 2)))
    }

    /// Days from 1970-01-01 to this day.
    fn days(&self) -> i64 {
        let (year, month) = (self.year - i64::from(self.month <= 2), i64::from(self.month));
        let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + i64::from(self.day) - 1;
        era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
    }

    /// Text after a format of C's `strftime`, in the C locale, as Python's `datetime.strftime` gives it.
    ///
    /// # Errors
    /// The directive that is not known.
    pub fn format(&self, format: &str) -> Result<String, String> {
        let first_of_year = Self { month: 1, day: 1, ..*self };
        let (month, weekday) = (usize::from(self.month).wrapping_sub(1), (self.days() + 3).rem_euclid(7));
        let name =
            |names: &'static [&'static str], index: usize| names.get(index).copied().unwrap_or_default();
        let (month_name, day_name) =
            (name(&MONTHS, month), name(&DAYS, usize::try_from(weekday).unwrap_or(0)));
        let short = |name: &str| name.get(..3).unwrap_or_default().to_owned();
        let twelve = (self.hour + 11) % 12 + 1;
        let mut text = String::new();
        let mut characters = format.chars();
        while let Some(character) = characters.next() {
            if character != '%' {
                text.push(character);
                continue;
            }
            let mut directive = characters.next().unwrap_or('%');
            let is_bare = directive == '-';
            if is_bare {
                directive = characters.next().unwrap_or('-');
            }
            let two = |number: u8| if is_bare { number.to_string() } else { format!("{number:02}") };
            text += &match directive {
                'Y' => self.year.to_string(),
                'y' => format!("{:02}", self.year.rem_euclid(100)),
                'm' => two(self.month),
                'd' => two(self.day),
                'e' if is_bare => self.day.to_string(),
                'e' => format!("{:2}", self.day),
                'H' => two(self.hour),
                'I' => two(twelve),
                'M' => two(self.minute),
                'S' => two(self.second),
                'p' => if self.hour < 12 { "AM" } else { "PM" }.to_owned(),
                'B' => month_name.to_owned(),
                'b' | 'h' => short(month_name),
                'A' => day_name.to_owned(),
                'a' => short(day_name),
                'j' => format!("{:03}", self.days() - first_of_year.days() + 1),
                'u' => (weekday + 1).to_string(),
                'w' => ((weekday + 1) % 7).to_string(),
                'F' => format!("{}-{:02}-{:02}", self.year, self.month, self.day),
                'D' => format!("{:02}/{:02}/{:02}", self.month, self.day, self.year.rem_euclid(100)),
                'T' => format!("{:02}:{:02}:{:02}", self.hour, self.minute, self.second),
                'R' => format!("{:02}:{:02}", self.hour, self.minute),
                'n' => "\n".to_owned(),
                't' => "\t".to_owned(),
                '%' => "%".to_owned(),
                other => return Err(format!("%{other} is not known to strftime_now")),
            };
        }
        Ok(text)
    }
}

/// `str(value)`: what `{{ value }}` shows.
pub(crate) fn python_str(value: &Value) -> String {
    match value.kind() {
        ValueKind::String => value.as_str().unwrap_or_default().to_owned(),
        ValueKind::Undefined => String::new(),
        _ => python_repr(value),
    }
}

fn python_repr(value: &Value) -> String {
    let items = || value.try_iter().into_iter().flatten();
    match value.kind() {
        ValueKind::None => "None".to_owned(),
        ValueKind::Bool => if value.is_true() { "True" } else { "False" }.to_owned(),
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
            let mut quoted = String::from(quote);
            for character in text.chars() {
                match character {
                    '\\' => quoted.push_str("\\\\"),
                    '\n' => quoted.push_str("\\n"),
                    '\r' => quoted.push_str("\\r"),
                    '\t' => quoted.push_str("\\t"),
                    other if other == quote => quoted.extend(['\\', other]),
                    other => quoted.push(other),
                }
            }
            quoted.push(quote);
            quoted
        }
        ValueKind::Seq | ValueKind::Iterable => {
            format!("[{}]", items().map(|item| python_repr(&item)).collect::<Vec<_>>().join(", "))
        }
        ValueKind::Map => {
            let entry = |key: Value| {
                let item = value.get_item(&key).unwrap_or_default();
                format!("{}: {}", python_repr(&key), python_repr(&item))
            };
            format!("{{{}}}", items().map(entry).collect::<Vec<_>>().join(", "))
        }
        _ => value.to_string(),
    }
}

/// The filter `tojson` of transformers: `json.dumps` with `ensure_ascii` off, which escapes no HTML.
///
/// # Errors
/// A value that JSON cannot hold.
pub(crate) fn to_json(value: &Value, options: &Kwargs) -> Result<String, Error> {
    let indent = match options.get::<Option<Value>>("indent")? {
        None => None,
        Some(value) => match (value.as_usize(), value.as_str()) {
            (Some(width), _) => Some(" ".repeat(width.min(64))),
            (None, Some(text)) => Some(text.to_owned()),
            (None, None) if value.is_none() => None,
            _ => return Err(Error::new(ErrorKind::InvalidOperation, "tojson: indent is no number")),
        },
    };
    let separators: Option<Vec<String>> = options.get("separators")?;
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        _ if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        _ => (", ".to_owned(), ": ".to_owned()),
    };
    let writer = JsonWriter {
        indent,
        item,
        key,
        is_ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        is_sorted: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    options.assert_all_used()?;
    writer.write(value, 0)
}

/// Options of one `json.dumps`.
struct JsonWriter {
    indent: Option<String>,
    item: String,
    key: String,
    is_ascii: bool,
    is_sorted: bool,
}

impl JsonWriter {
    fn write(&self, value: &Value, depth: usize) -> Result<String, Error> {
        Ok(match value.kind() {
            ValueKind::None => "null".to_owned(),
            ValueKind::Bool => value.is_true().to_string(),
            ValueKind::Number => value.to_string(),
            ValueKind::String => self.text(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?.map(|item| self.write(&item, depth + 1));
                self.enclose('[', items.collect::<Result<_, _>>()?, ']', depth)
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.is_sorted {
                    keys.sort();
                }
                let entries = keys.into_iter().map(|key| {
                    let item = self.write(&value.get_item(&key)?, depth + 1)?;
                    let name = if key.kind() == ValueKind::String {
                        self.write(&key, 0)?
                    } else {
                        self.text(&self.write(&key, 0)?)
                    };
                    Ok(format!("{name}{}{item}", self.key))
                });
                self.enclose('{', entries.collect::<Result<_, Error>>()?, '}', depth)
            }
            kind => {
                return Err(Error::new(ErrorKind::InvalidOperation, format!("tojson: {kind} is not JSON")));
            }
        })
    }

    fn enclose(&self, open: char, items: Vec<String>, close: char, depth: usize) -> String {
        match &self.indent {
            Some(indent) if !items.is_empty() => {
                let (inner, outer) = (indent.repeat(depth + 1), indent.repeat(depth));
                let separator = format!("{}\n{inner}", self.item);
                format!("{open}\n{inner}{}\n{outer}{close}", items.join(&separator))
            }
            _ => format!("{open}{}{close}", items.join(&self.item)),
        }
    }

    fn text(&self, text: &str) -> String {
        let quoted = serde_json::Value::from(text).to_string();
        if !self.is_ascii {
            return quoted;
        }
        let mut ascii = String::new();
        for character in quoted.chars() {
            if character.is_ascii() {
                ascii.push(character);
            } else {
                let units = character
                    .encode_utf16(&mut [0; 2])
                    .iter()
                    .map(|unit| format!("\\u{unit:04x}"))
                    .collect::<String>();
                ascii.push_str(&units);
            }
        }
        ascii
    }
}

//! The parameters of a kettle: one of each kind that the engine treats in its own way.

use cfg_engine::configuration;
use cfg_schema::{ByteSize, Milliseconds, Parameter, Problem, parameters};

parameters! {
    /// All parameters of the kettle.
    pub struct Kettle;

    objects {
        /// A cup.
        Cup {
            /// Its name.
            name: String;
            /// How much it holds.
            size: ByteSize = ByteSize(256), range 1..=4096;
            /// What is engraved below it.
            pin: String = String::new(), secret;
        }
    }

    /// How water is heated.
    section heater: Heater {
        /// Water that is heated at least.
        least: ByteSize = ByteSize(512), Dynamic, range 1..=1 << 20;
        /// Water that is heated at most. At least the above, or nothing is heated.
        most: ByteSize = ByteSize(4096), Restart, range 1..=1 << 20;
        /// Waiting time for the lid.
        lid_timeout_ms: Milliseconds = Milliseconds(500), Dynamic, range 1..=10_000;
        /// Opens the lid.
        password: String = String::new(), Dynamic, secret;
        /// Whistles when the water boils. This kettle cannot.
        whistle: bool = true, NoEffect;
    }

    /// Where water goes.
    section table: Table {
        /// The cups.
        cups: Vec<Cup> = Vec::new(), Dynamic, range 0..=4;
        /// Number of legs.
        legs: u32 = 4, Restart, range 1..=8;
    }

    /// Who the kettle is.
    section plate: Plate {
        /// Its number.
        serial: String = "s1".to_owned(), Immutable, identity;
        /// What it is made of.
        metal: String = "steel".to_owned(), Immutable;
    }
}

configuration!(Kettle, check);

fn check(kettle: &Kettle) -> Vec<Problem> {
    let (least, most) = (kettle.heater.least, kettle.heater.most);
    let mut problems = Vec::new();
    if least > most {
        let problem = format!("must be at most heater.most, which is {most}");
        problems.push(Problem::new("heater", "least", least.write(), problem));
    }
    problems
}

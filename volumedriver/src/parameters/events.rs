//! What is told to others: events and statistics.

use cfg_schema::{Seconds, sections};

sections! {
    objects {
        /// A broker of messages.
        AmqpUri {
            /// Its URL, which may hold a password.
            amqp_uri: String, secret;
        }
    }

    /// Events for a broker of messages (AMQP).
    section event_publisher: EventPublisher {
        /// The brokers, tried in this order. Without any, events are dropped.
        events_amqp_uris: Vec<AmqpUri> = Vec::new(), NoEffect;
        /// The exchange that events are published to.
        events_amqp_exchange: String = String::new(), NoEffect;
        /// The routing key of events.
        events_amqp_routing_key: String = String::new(), NoEffect;
    }

    /// Statistics that are pushed to a collector. Those at `/metrics` are fetched and have parameters of their own.
    section stats_collector: StatsCollector {
        /// How often statistics are pushed; 0 means never.
        stats_collector_interval_secs: Seconds = Seconds(6000), NoEffect;
        /// Where to: `redis://HOST[:PORT]/…`, or empty for the program's log.
        stats_collector_destination: String = String::new(), NoEffect;
    }
}

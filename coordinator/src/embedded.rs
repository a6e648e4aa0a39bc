//! Agents in this process: what `buildr-coordinator up` adds to a coordinator.
//!
//! They are enrolled without a person (`Config::known_agents`) and stand on the other end of a broker in memory.

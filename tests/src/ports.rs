//! Ports of this machine for what is started again at the same address.

use std::net::TcpListener;

/// Ports that are free, and that nothing on this machine is given by chance while what listens on them is away.
///
/// The system hands out ports of its own range (32,768 and above, by default) to whoever binds port 0 and to each
/// connection that goes out; these lie below it.
pub fn free<const COUNT: usize>() -> [u16; COUNT] {
    let mut held: Vec<TcpListener> = Vec::new();
    while held.len() < COUNT {
        let port = 20_000 + (uuid::Uuid::new_v4().as_u128() % 12_000) as u16;
        held.extend(TcpListener::bind(("127.0.0.1", port)));
    }
    std::array::from_fn(|place| held[place].local_addr().expect("a port").port())
}

//! The server over real sockets of this machine.

mod answers;
mod faults;
mod grpc;
mod hostile;
mod load;
mod started;
mod texts;
mod wire;

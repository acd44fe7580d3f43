//! Events to exchanges: connections, stream order, protocols.

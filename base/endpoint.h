/* endpoint.h - which addresses a ZeroMQ socket of the agent may bind. */
#ifndef BASE_ENDPOINT_H
#define BASE_ENDPOINT_H

/*
 * NULL when clients may be served at text: "ipc://PATH", or "tcp://ADDRESS:PORT" with a numeric
 * loopback address. Else what is wrong, as a fixed text that follows the key's name.
 */
const char *endpoint_fault(const char *text);

/* The same for an endpoint that must be "ipc://PATH". */
const char *endpoint_ipc_fault(const char *text);

#endif /* BASE_ENDPOINT_H */

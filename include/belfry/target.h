/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * target: the program's middle: subsystems, listeners, RPC methods, configuration. app/belfryd starts and stops it.
 *
 * Thread: control reactor (0), but for target_start() and target_fini(), which run before and after reactors_run().
 * Lifetime: one a process.
 */
#ifndef BELFRY_TARGET_H
#define BELFRY_TARGET_H

#include "belfry/reactor.h"

struct target_options {
	const char *rpc_paths
		[2]; /* [1] may be NULL; borrowed for the life of the target */
	const char *config; /* a file to load first, or NULL; borrowed likewise */
	bool wait_for_rpc; /* load it (and begin) only at framework_start_init */
	uint64_t arena_len;	/* address space per client, 0: the default */
	void (*ready)(void);	/* runs once, when the configuration stands */
	void (*stopping)(void); /* runs once, when target_stop() begins */
};

/*
 * After reactors_init(). Opens the RPC sockets; the rest follows in the loop. A configuration that fails is
 * logged, undone, and ends reactors_run() with 1.
 * 0 or -errno, logged: -EWOULDBLOCK: another daemon has a socket.
 */
int target_start(const struct target_options *opts);
/*
 * Take no more commands, finish those in flight, close all, then reactors_stop(@code). After 10 s, a device that
 * hangs is named, the sockets are removed, and the process exits with 1 on the spot: its kernel I/O cannot be waited
 * for. A second call is harmless.
 */
void target_stop(int code);
void target_fini(void);

#endif

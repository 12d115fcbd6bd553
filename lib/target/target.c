/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Start and stop of the target. Not for its parts.
 *
 * Start: sockets answer at once; modules, then the configuration, then RPC_RUNTIME.
 * Stop: RPC, subsystems (listeners drain), then the reactors; target_fini() does what wants them stopped.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

#define STOP_NS 10000000000ull

static struct {
	struct target_options opts;
	struct rpc_server *servers[2];
	bool begun, stopping, sweeping, finishing;
	int code;
	struct reactor_msg begin_msg;
	struct reactor_timer deadline;
	struct fanout fanout, stop_fanout;
	int init_err;
} target;

uint64_t
target_arena_len(void)
{
	return target.opts.arena_len;
}

/* ---- start ---- */

static void
target_loaded(const char *error)
{
	if (target.stopping)
		return;
	if (error) {
		log_error("%s", error);
		target_stop(1);
		return;
	}
	rpc_set_state(RPC_RUNTIME);
	if (target.opts.ready)
		target.opts.ready();
}

static void
core_init(struct fanout *f)
{
	int err = nvme_core_init(reactor_self());

	if (err && !target.init_err)
		target.init_err = err;
}

static void
cores_ready(struct fanout *f)
{
	if (target.init_err) {
		log_error("cannot start the controllers' pollers: %s",
			  strerror(-target.init_err));
		target_stop(1);
	} else if (target.stopping) {
		return;
	} else if (target.opts.config) {
		config_load(target.opts.config, target_loaded);
	} else {
		target_loaded(NULL);
	}
}

bool
target_begin(void)
{
	if (target.begun || target.stopping)
		return false;
	target.begun = true;
	rpc_hold();
	target.fanout.fn = core_init;
	target.fanout.done = cores_ready;
	fanout_run(&target.fanout);
	return true;
}

static void
begin(struct reactor_msg *m)
{
	target_begin();
}

static void
register_methods(void)
{
	rpc_framework_register();
	rpc_options_register();
	rpc_absent_register();
	rpc_transport_register();
	rpc_bdev_register();
	rpc_bdev_info_register();
	rpc_nvme_register();
	rpc_nvme_info_register();
	rpc_listener_register();
	rpc_stats_register();
	rpc_notify_register();
	rpc_histogram_register();
}

static int
open_sockets(void)
{
	const char *path;
	unsigned i;
	int err;

	for (i = 0; i < 2 && target.opts.rpc_paths[i]; i++) {
		path = target.opts.rpc_paths[i];
		err = rpc_listen(reactor_get(0), path, &target.servers[i]);
		if (!err)
			continue;
		if (err == -EWOULDBLOCK)
			log_error(
				"%s: another daemon is running there; stop it, or choose another socket with -r",
				path);
		else if (err == -EEXIST)
			log_error(
				"%s: exists and is no socket; choose another one with -r",
				path);
		else if (err == -ENAMETOOLONG)
			log_error(
				"%s: the path of a socket has at most %d bytes here; choose another one with -r",
				path, RPC_MAX_PATH);
		else
			log_error(
				"%s: cannot listen: %s; choose another socket with -r",
				path, strerror(-err));
		if (i)
			rpc_close(target.servers[0]);
		return err;
	}
	return 0;
}

int
target_start(const struct target_options *opts)
{
	int err;

	memset(&target, 0, sizeof(target));
	target.opts = *opts;
	register_methods();
	err = ioas_sigbus_init();
	if (!err)
		err = irq_watchdog_init();
	if (err) {
		log_error("cannot start: %s", strerror(-err));
		return err;
	}
	err = bdev_init();
	if (err) {
		log_error("cannot start the block devices: %s", strerror(-err));
		goto watchdog_fini;
	}
	err = open_sockets();
	if (err)
		goto bdevs_fini;
	if (!opts->wait_for_rpc) {
		target.begin_msg.fn = begin;
		reactor_send(reactor_get(0), &target.begin_msg);
	}
	return 0;
bdevs_fini:
	bdev_fini();
watchdog_fini:
	irq_watchdog_fini();
	return err;
}

/* ---- stop ---- */

static void
close_sockets(void (*close_one)(struct rpc_server *s))
{
	unsigned i;

	for (i = 0; i < 2; i++)
		if (target.servers[i])
			close_one(target.servers[i]);
}

/* What is left hangs in the kernel: name it, leave nothing in the file system, go. */
static void
stop_timeout(struct reactor_timer *t)
{
	struct bdev_stats stats;
	struct bdev_info info;
	bool named = false;
	struct bdev *b;

	for (b = bdev_first(); b; b = bdev_next(b)) {
		bdev_get_stats(b, &stats);
		if (!stats.inflight)
			continue;
		bdev_info_of(b, &info);
		log_error(
			"bdev %s hangs: %llu I/Os have not ended in 10 s, exiting without them",
			info.name, (unsigned long long)stats.inflight);
		named = true;
	}
	if (!named)
		log_error(
			"not everything has ended in 10 s, exiting without it");
	close_sockets(rpc_close);
	_exit(1);
}

static void
core_fini(struct fanout *f)
{
	nvme_core_fini(reactor_self());
}

static void
cores_stopped(struct fanout *f)
{
	reactor_timer_stop(&target.deadline);
	reactors_stop(target.code);
}

/* A subsystem has gone; the last one lets us go on. */
void
target_subsystem_gone(void)
{
	if (!target.stopping || target.sweeping || target.finishing ||
	    !list_empty(&subsystems))
		return;
	target.finishing = true;
	if (!target.begun) {
		cores_stopped(NULL);
		return;
	}
	target.stop_fanout.fn = core_fini;
	target.stop_fanout.done = cores_stopped;
	fanout_run(&target.stop_fanout);
}

bool
target_is_stopping(void)
{
	return target.stopping;
}

void
target_stop(int code)
{
	struct subsystem *s, *next;

	if (target.stopping)
		return;
	target.stopping = true;
	target.code = code;
	if (target.opts.stopping)
		target.opts.stopping();
	close_sockets(rpc_stop);
	target.deadline.fire = stop_timeout;
	if (reactor_timer_start(reactor_get(0), &target.deadline, STOP_NS))
		log_warn("no timer for the shutdown: it may take long");
	target.sweeping = true;
	list_for_each_safe(s, next, &subsystems, node)
		if (!s->deleting)
			subsystem_delete(s, NULL, NULL);
	target.sweeping = false;
	target_subsystem_gone();
}

void
target_fini(void)
{
	rpc_drop_held();
	rpc_bdev_info_fini();
	bdev_fini();
	irq_watchdog_fini();
	close_sockets(rpc_close);
	memset(&target, 0, sizeof(target));
}

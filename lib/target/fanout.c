/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Visit every reactor. Not for the data path: one after the other.
 */
#include "internal.h"

static void
fanout_finish(struct reactor_msg *m)
{
	struct fanout *f = container_of(m, struct fanout, msg);

	f->done(f);
}

static void
fanout_step(struct reactor_msg *m)
{
	struct fanout *f = container_of(m, struct fanout, msg);
	struct reactor *next = reactor_get(f->next + 1);

	f->fn(f);
	f->next++;
	if (next) {
		reactor_send(next, &f->msg);
		return;
	}
	f->msg.fn = fanout_finish;
	reactor_send(reactor_get(0), &f->msg);
}

void
fanout_run(struct fanout *f)
{
	f->next = 0;
	f->msg.fn = fanout_step;
	reactor_send(reactor_get(0), &f->msg);
}

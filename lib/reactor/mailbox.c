/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Messages between threads. Not for the data path: a message costs a contended
 * cache line, and a system call when the receiver sleeps.
 *
 * A stack that senders push on with one CAS and the reactor takes whole with one
 * exchange. Turned around, it gives each sender's order. No node is popped alone,
 * so the ABA of such stacks cannot happen; and unlike a queue with a tail it is
 * never seen half linked.
 */
#include "internal.h"

void
reactor_send(struct reactor *to, struct reactor_msg *m)
{
	m->next = __atomic_load_n(&to->inbox, __ATOMIC_RELAXED);
	/*
	 * Sequentially consistent, as are the load in reactor_kick() and, on the
	 * other side, the store of ->sleeping and then the load in
	 * mailbox_empty(): one of the two sides sees what the other did.
	 */
	while (!__atomic_compare_exchange_n(&to->inbox, &m->next, m, true,
					    __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
		;
	/* @m may be gone by now. */
	reactor_kick(to);
}

bool
mailbox_empty(const struct reactor *r)
{
	return !__atomic_load_n(&r->inbox, __ATOMIC_SEQ_CST);
}

/* Run what has come so far; what is sent meanwhile waits for the next round. */
unsigned
mailbox_run(struct reactor *r)
{
	struct reactor_msg *m, *next, *first = NULL;
	unsigned n = 0;

	/* A look without a write keeps the line shared while nobody sends. */
	if (likely(!__atomic_load_n(&r->inbox, __ATOMIC_RELAXED)))
		return 0;
	/* Pairs with the CAS in reactor_send(). */
	m = __atomic_exchange_n(&r->inbox, NULL, __ATOMIC_ACQUIRE);
	for (; m; m = next) {
		next = m->next;
		m->next = first;
		first = m;
	}
	for (m = first; m; m = next, n++) {
		next = m->next; /* fn owns the message and may free it */
		m->fn(m);
	}
	return n;
}

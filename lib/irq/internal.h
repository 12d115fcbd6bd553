/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * internal: what the files of lib/irq share: writing an eventfd without being held up.
 */
#ifndef IRQ_INTERNAL_H
#define IRQ_INTERNAL_H

#include "belfry/irq.h"

/* A thread that raises. seq is odd while it may be using an fd. */
struct watch_slot {
	uint64_t seq;
	bool known; /* in the watchdog's list */
};
extern __thread struct watch_slot watch_self;
extern uint32_t watch_parked;

/* Slow halves: make this thread known; get the watchdog up. */
void watch_join(void);
void watch_wake(void);

/*
 * The two stores around each use of an fd: the watchdog sees who is stuck, and watch_quiesce() who may still
 * use an fd that has been replaced. Ordered for others by membarrier there, for free here.
 */
static inline void
watch_enter(void)
{
	struct watch_slot *s = &watch_self;

	if (unlikely(!s->known))
		watch_join();
	__atomic_store_n(&s->seq, s->seq + 1, __ATOMIC_RELAXED);
	__asm__ volatile("" : : : "memory");
	if (unlikely(__atomic_load_n(&watch_parked, __ATOMIC_RELAXED)))
		watch_wake();
}

static inline void
watch_leave(void)
{
	struct watch_slot *s = &watch_self;

	__asm__ volatile("" : : : "memory");
	__atomic_store_n(&s->seq, s->seq + 1, __ATOMIC_RELEASE);
}

/* Returns when every use of an fd that began before has ended. May block for some ms: a worker's. */
void watch_quiesce(void);

#endif

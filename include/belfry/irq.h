/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * irq: interrupts of one device: vector -> eventfd.
 *
 * lib/vfio_user binds eventfds (SET_IRQS) and asks for masks; lib/nvme raises. The set decides by itself whether
 * MSI-X or INTx is in use: MSI-X as soon as one of its vectors has been bound and the index was not disabled since.
 *
 * Signalling never blocks: a client that clears O_NONBLOCK and fills its counter is found by a watchdog thread, whose
 * signal turns the stuck write into EINTR after 2 ms at most; the set is then dead (irq_dead) and signals nothing more.
 *
 * Thread: home reactor binds; any reactor that owns a vector raises it (a vector has one owner at a time).
 * Lifetime: takes eventfds only; they are closed on WORK_CONTROL (their close asks nobody).
 */
#ifndef BELFRY_IRQ_H
#define BELFRY_IRQ_H

#include "belfry/reactor.h"

/* VFIO's indexes (linux/vfio.h VFIO_PCI_*_IRQ_INDEX), in their order. */
enum irq_index {
	IRQ_INTX,
	IRQ_MSI,
	IRQ_MSIX,
	IRQ_ERR,
	IRQ_REQ,
	IRQ_INDEX_COUNT
};

struct irq_set;

/* @msix vectors (1..2048), INTx 1, MSI 0, ERR 1, REQ 1. Once a process before: irq_watchdog_init(). */
int irq_set_create(struct reactor *home, unsigned msix, struct irq_set **out);
void irq_set_destroy(struct irq_set *set);
int irq_watchdog_init(void);
void irq_watchdog_fini(void);

unsigned irq_count(const struct irq_set *set, enum irq_index index);

/*
 * Bind vectors [start, start + n) to @fds (fds[i] == -1 leaves i unbound). Takes all fds; on error none.
 * -EINVAL: range, or an fd that is no eventfd (nothing changes). A signal that was latched while unbound is delivered.
 */
int irq_bind(struct irq_set *set, enum irq_index index, unsigned start,
	     unsigned n, const int *fds);
/* Unbind a range; n == 0 with start == 0: the whole index is disabled. -EINVAL: range. */
int irq_unbind(struct irq_set *set, enum irq_index index, unsigned start,
	       unsigned n);
/*
 * What has been replaced or unbound is being closed, on a worker that others need as well. Who binds for a client does
 * nothing more for it until @fn(arg), on the home reactor, has told that this is over.
 */
bool irq_closing(const struct irq_set *set);
void irq_on_closed(struct irq_set *set, void (*fn)(void *arg), void *arg);
/* Mask or unmask; an unmask delivers what was latched (and INTx again when its level is still asserted). -EINVAL: range. */
int irq_mask(struct irq_set *set, enum irq_index index, unsigned start,
	     unsigned n, bool mask);
/* The client asks for a signal (SET_IRQS TRIGGER with NONE or BOOL). -EINVAL: range. */
int irq_trigger(struct irq_set *set, enum irq_index index, unsigned vector);
/* Device reset: masks and latches cleared, bindings stay (VFIO_USER.md 10). */
void irq_reset(struct irq_set *set);

/* Is MSI-X in use (else INTx)? */
bool irq_msix_active(const struct irq_set *set);
/* Data path: one eventfd write on MSI-X vector @iv; latched when masked or unbound. One system call at most. */
void irq_raise(struct irq_set *set, unsigned iv);
/* INTx level: the eventfd is written on each rising edge, and on an unmask with the level up. Home reactor. */
void irq_intx(struct irq_set *set, bool level);
/* The client's eventfd blocked us. Any thread; sticky. */
bool irq_dead(const struct irq_set *set);
/* Signals written since creation, for statistics. */
uint64_t irq_signals(const struct irq_set *set);

#endif

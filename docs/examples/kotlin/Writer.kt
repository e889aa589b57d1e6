import com.fasterxml.jackson.annotation.JsonIgnoreProperties
import com.fasterxml.jackson.module.kotlin.jacksonObjectMapper
import java.sql.Connection
import java.sql.DriverManager

@JsonIgnoreProperties(ignoreUnknown = true)
data class OrderPlaced(val order_id: Long, val customer: String, val total_cents: Long)

/** Places orders, each with its event, for the relay to carry to Kafka. */
object Writer {
    private val json = jacksonObjectMapper()

    /** Commits the order and its event, or neither. */
    fun placeOrder(db: Connection, customer: String, totalCents: Long) = db.transaction {
        val id = prepareStatement("insert into orders (customer, total_cents) values (?, ?) returning id").use {
            it.setString(1, customer)
            it.setLong(2, totalCents)
            val rows = it.executeQuery()
            rows.next()
            rows.getLong(1)
        }
        prepareStatement(
            """insert into outbox (aggregate_type, aggregate_id, event_type, payload)
               values ('order', ?, 'OrderPlaced', ?::jsonb)"""
        ).use {
            it.setString(1, id.toString())
            it.setString(2, json.writeValueAsString(OrderPlaced(id, customer, totalCents)))
            it.executeUpdate()
        }
    }

    @JvmStatic
    fun main(args: Array<String>) {
        val customers = listOf("ada", "ben", "cyd")
        DriverManager.getConnection(System.getenv("DATABASE_URL")).use { db ->
            for (i in 0 until args[0].toInt()) {
                placeOrder(db, customers[i % customers.size], 100L * (i + 1))
            }
        }
    }
}

/** Commits all that work does, or nothing. */
fun <T> Connection.transaction(work: Connection.() -> T): T {
    autoCommit = false
    try {
        return work().also { commit() }
    } catch (e: Exception) {
        rollback()
        throw e
    }
}
